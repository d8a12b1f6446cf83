"""From a trained network to a probability map on the case's own grid."""

from __future__ import annotations

import torch
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

    The network works on its own, coarser grid; its log-odds are interpolated to the case's.
    With a `prior` [H, W, L], the result's log-odds are the mean of the network's and the prior's, weighted by the
    setting `prior_weight`: the network has seen all modalities and the whole cohort, the prior this image at full
    resolution, and where they disagree the more certain one decides.
    """
    coarse = resample_case(case, model.settings.spacing)
    logits = infer(model, coarse.image)
    if coarse is not case:
        logits = transfer(logits, coarse, case)
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
