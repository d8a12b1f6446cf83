"""From a trained network to a probability map on the case's own grid."""

from __future__ import annotations

import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor

from cgckit.cgc.margin import spatial_evidence
from cgckit.cgc.model_files import TrainedModel
from cgckit.cgc.presets import Settings
from cgckit.images.case import Case
from cgckit.images.preparation import resample_case, transfer


def segment(model: TrainedModel, case: Case, prior: Tensor | None = None) -> Tensor:
    """Probability of lesion for one subject, [H, W, L] float32 on `case`'s grid, 0 outside the brain.

    The network works on its own grid; its log-odds are interpolated to the case's. With a `prior` [H, W, L] they are
    added to what the prior says of each place (`cgckit.cgc.margin.spatial_evidence`): the network, which has seen all
    modalities and the whole cohort, decides where the edge of a lesion lies; to add a lesion far from the prior's, or
    to empty its interior, it must be the more certain one.
    """
    coarse = resample_case(case, model.settings.spacing)
    logits = infer(model, coarse.image)
    if coarse is not case:
        logits = transfer(logits, coarse, case)
    if prior is not None and model.settings.prior_weight > 0:
        weight, reach = model.settings.prior_weight, model.settings.prior_reach
        logits = logits + spatial_evidence(prior, case.spacing, weight=weight, reach=reach)
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
