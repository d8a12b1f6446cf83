"""From a trained network to a probability map on the case's own grid."""

from __future__ import annotations

import torch
from monai.inferers.utils import sliding_window_inference
from monai.utils.type_conversion import convert_to_tensor
from torch import Tensor

from cgckit.cgc.appearance import appearance_log_odds
from cgckit.cgc.crops import intensity_augmentation
from cgckit.cgc.margin import prior_log_odds
from cgckit.cgc.network import CGCNet
from cgckit.cgc.parts import without_false_parts
from cgckit.cgc.settings import InferenceSettings, Settings
from cgckit.images.case import Case
from cgckit.images.preparation import resample_case, transfer
from cgckit.lesion_evidence.cores import with_cores


def segment(
    network: CGCNet, settings: Settings, case: Case, prior: Tensor | None = None, *, doubtful: bool = False
) -> Tensor:
    """Probability of lesion for one subject, [H, W, L] float32 on `case`'s grid, 0 outside the brain.

    The network works on its own grid; its log-odds are interpolated to the case's, times the setting `network_weight`,
    and two others are added to them:

    - With a `prior` [H, W, L] the prior's (`cgckit.cgc.margin.prior_log_odds`), times the setting `prior_weight`. Near
      the prior's edge the network decides where it is sure; to add a lesion far from it, or to empty its interior, it
      must be very sure.
    - Those of the subject's own appearance model (`cgckit.cgc.appearance.appearance_log_odds`), times the setting
      `appearance_weight`. It is learnt from the prior's mask, or the network's own where there is no prior.

    The network has seen the whole cohort, on a coarser grid; the prior and the appearance model this image, in full
    resolution. So these may move a lesion's edge, but a connected part of the mask stays only where the network alone
    calls the share `min_consent` of it lesion (`cgckit.cgc.parts.without_false_parts`), or where most of the prior is.

    A prior that is `doubtful`, as one that nothing was trained on, is weighed against the network in full, and keeps
    nothing. Without a prior the network stands for itself.
    """
    coarse = resample_case(case, settings.spacing)
    logits = _on_grid(infer(network, settings, coarse.image), coarse, case)
    support = _support(settings, logits, case, prior)
    return _probability(settings, logits, support, case, None if doubtful else prior)


def without_network(settings: InferenceSettings, case: Case, prior: Tensor) -> Tensor:
    """What `segment` would give if the network had no opinion: the prior and the appearance model alone.

    Where these have none either, as everywhere if the settings give them no weight, it is the prior as it stands.
    """
    nothing = torch.zeros(case.brain.shape)
    support = _support(settings, nothing, case, prior)
    logits = torch.where(support == 0, prior.logit(eps=1e-6), nothing)
    return _probability(settings, logits, support, case, None)


def uncertainty(
    network: CGCNet, settings: Settings, case: Case, prior: Tensor | None = None, *, doubtful: bool = False
) -> Tensor:
    """Standard deviation of `segment`'s probability over augmented views, [H, W, L] float32, 0 outside the brain.

    There are `uncertainty_views` of them: contrast, brightness and noise vary as in training, every other one is
    mirrored; what is added to the network's log-odds is that of the image as it is. It shows how much the
    result hangs on what should not matter, not how wrong the network may be.
    """
    coarse = resample_case(case, settings.spacing)
    logits = _on_grid(infer(network, settings, coarse.image), coarse, case)
    support = _support(settings, logits, case, prior)
    vary = intensity_augmentation(len(coarse.image))
    maps = []
    for view in range(settings.uncertainty_views):
        varied = vary.set_random_state(seed=view)({"image": coarse.image.clone()})["image"]
        image = convert_to_tensor(varied, track_meta=False) * coarse.brain
        logits = _mirrored(network, settings, image) if view % 2 else _direct(network, settings, image)
        maps.append(_probability(settings, _on_grid(logits, coarse, case), support, case, None if doubtful else prior))
    return torch.stack(maps).std(0, correction=0)


def infer(network: CGCNet, settings: Settings, image: Tensor) -> Tensor:
    """Log-odds of lesion by sliding windows, [H, W, L] float32 on the CPU, of an image [C, H, W, L].

    With the setting `mirror`, the mean over the image and its left-right mirror image.
    """
    logits = _direct(network, settings, image)
    return (logits + _mirrored(network, settings, image)) / 2 if settings.mirror else logits


def _on_grid(logits: Tensor, coarse: Case, case: Case) -> Tensor:
    """Log-odds on the network's grid, brought to the case's."""
    return logits if coarse is case else transfer(logits, coarse, case)


def _support(settings: InferenceSettings, logits: Tensor, case: Case, prior: Tensor | None) -> Tensor:
    """What is added to the network's log-odds `logits` [H, W, L]: the weighted ones of prior and appearance."""
    support = torch.zeros_like(logits)
    if prior is not None and settings.prior_weight > 0:
        support += settings.prior_weight * prior_log_odds(prior, case.spacing, reach=settings.prior_reach)
    if settings.appearance_weight > 0:
        lesion = logits >= 0 if prior is None else prior >= 0.5
        support += settings.appearance_weight * appearance_log_odds(case, lesion)
    return support


def _probability(
    settings: InferenceSettings, logits: Tensor, support: Tensor, case: Case, prior: Tensor | None
) -> Tensor:
    """Probability of lesion in the brain, without specks and what the network refuses, with enclosed cores.

    Cores come last: the network need not call them lesion, so they must not count against the part around them.
    """
    weight = settings.network_weight if prior is not None and settings.prior_weight > 0 else 1.0
    probability = (weight * logits + support).sigmoid() * case.brain
    probability = without_false_parts(
        probability, logits, case.spacing, min_volume=settings.min_lesion, least=settings.min_consent, prior=prior
    )
    return with_cores(probability, case) if settings.fill_cores else probability


def _mirrored(network: CGCNet, settings: Settings, image: Tensor) -> Tensor:
    """`_direct` of the left-right mirror image, mirrored back."""
    return _direct(network, settings, image.flip(1)).flip(0)


@torch.inference_mode()
def _direct(network: CGCNet, settings: Settings, image: Tensor) -> Tensor:
    """Log-odds [H, W, L] of an image [C, H, W, L], window after window."""
    device = next(network.parameters()).device
    logits = sliding_window_inference(
        image[None].to(device),
        roi_size=settings.crop,
        sw_batch_size=settings.batch,
        predictor=network.segment,
        overlap=settings.overlap,
        mode="gaussian",
    )
    return torch.as_tensor(logits)[0, 0].float().cpu()
