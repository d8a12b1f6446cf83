"""From a trained network to a probability map on the case's own grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.inferers.utils import sliding_window_inference
from torch import Tensor

from cgckit.cgc.model_files import TrainedModel
from cgckit.cgc.presets import Settings
from cgckit.images.case import Case
from cgckit.images.preparation import resample_case, transfer

_CERTAINTY = 0.98
"""Where a prior's probability is cut before it becomes log-odds: its certainty must not outvote any evidence."""


def segment(model: TrainedModel, case: Case, prior: Tensor | None = None) -> Tensor:
    """Probability of lesion for one subject, [H, W, L] float32 on `case`'s grid, 0 outside the brain.

    The network works on its own, coarser grid; its log-odds come back along the edges of the full-resolution image.
    With a `prior` [H, W, L], the result's log-odds are the mean of the network's and the prior's, weighted by the
    setting `prior_weight`: the network has seen all modalities and the whole cohort, the prior this image at full
    resolution, and where they disagree the more certain one decides.
    """
    coarse = resample_case(case, model.settings.spacing)
    logits = infer(model, coarse.image)
    if coarse is not case:
        logits = guided_upsample(logits, coarse, case)
    if prior is not None:
        logits = torch.lerp(logits, prior.clamp(1 - _CERTAINTY, _CERTAINTY).logit(), model.settings.prior_weight)
    return logits.sigmoid() * case.brain


@torch.inference_mode()
def infer(model: TrainedModel, image: Tensor) -> Tensor:
    """Log-odds of lesion by sliding windows, [H, W, L] float32 on the CPU, of an image [C, H, W, L].

    With the setting `mirror`, the mean over the image and its left-right mirror image.
    """
    device = next(model.network.parameters()).device
    batch = image[None].to(device)
    logits = _windows(model, batch)
    if model.settings.mirror:
        logits = (logits + _windows(model, batch.flip(2)).flip(2)) / 2
    return logits[0, 0].float().cpu()


def _windows(model: TrainedModel, batch: Tensor) -> Tensor:
    settings: Settings = model.settings
    logits = sliding_window_inference(
        batch,
        roi_size=settings.crop,
        sw_batch_size=settings.batch,
        predictor=model.network.segment,
        overlap=settings.overlap,
        mode="gaussian",
    )
    return torch.as_tensor(logits)


def guided_upsample(values: Tensor, coarse: Case, fine: Case, *, radius: int = 2, epsilon: float = 0.05) -> Tensor:
    """Bring a map from `coarse`'s grid to `fine`'s along the edges of the image.

    The guided filter of He, Sun and Tang with the modalities as guide: in each window of the coarse grid the map is
    fitted as a linear function of the image, and the coefficients, not the values, are interpolated, so that edges
    are those of the full-resolution image.

    Args:
        values: [h, w, l] on `coarse`'s grid.
        coarse: the case on the coarse grid.
        fine: the same case on the fine grid.
        radius: of the window [coarse voxels].
        epsilon: ridge on the coefficients, in squared units of the normalised image.

    Returns:
        [H, W, L] on `fine`'s grid.
    """
    guide, channels = coarse.image, coarse.image.shape[0]

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool3d(x[None], 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)[0]

    mean_guide, mean_value = mean(guide), mean(values[None])
    rows, columns = torch.triu_indices(channels, channels)
    products = mean(guide[rows] * guide[columns]) - mean_guide[rows] * mean_guide[columns]
    covariance = products.new_zeros(channels, channels, *values.shape)
    covariance[rows, columns] = products
    covariance[columns, rows] = products
    cross = mean(guide * values) - mean_guide * mean_value
    ridge = covariance.movedim((0, 1), (-2, -1)) + epsilon * torch.eye(channels)
    slope = torch.linalg.solve(ridge, cross.movedim(0, -1)).movedim(-1, 0)
    offset = mean_value - (slope * mean_guide).sum(0, keepdim=True)
    result = torch.zeros(fine.brain.shape)
    for coefficient, channel in zip(mean(slope), fine.image, strict=True):
        result += transfer(coefficient, coarse, fine) * channel
    return result + transfer(mean(offset)[0], coarse, fine)
