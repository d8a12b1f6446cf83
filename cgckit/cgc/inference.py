"""From a trained network to a probability map on the case's own grid."""

from __future__ import annotations

import torch
from monai.utils.type_conversion import convert_to_tensor
from torch import Tensor

from cgckit.cgc.appearance import appearance_log_odds
from cgckit.cgc.crops import intensity_augmentation, lesson
from cgckit.cgc.margin import prior_log_odds
from cgckit.cgc.parts import Judged, without_false_parts
from cgckit.cgc.settings import InferenceSettings, Settings
from cgckit.images.case import Case
from cgckit.images.preparation import resample_case, transfer
from cgckit.lesion_evidence.cores import with_cores
from cgckit.lesion_evidence.evidence import is_ct
from cgckit.nets.cgc_net import CGCNet
from cgckit.nets.windows import infer
from cgckit.starting import starting_log_odds

_MOST = 6.0
"""Log-odds at which the starting network's are cut: so sure is no network of what it has not seen."""


def segment(
    network: CGCNet, settings: Settings, case: Case, prior: Tensor | None = None, *, doubtful: bool = False
) -> Judged:
    """Probability of lesion for one subject, [H, W, L] float32 on `case`'s grid, 0 outside the brain.

    The network works on its own grid; its log-odds are interpolated to the case's, times the setting `network_weight`,
    and three others are added to them:

    - With a `prior` [H, W, L] the prior's (`cgckit.cgc.margin.prior_log_odds`), times the setting `prior_weight`. Near
      the prior's edge the network decides where it is sure; to add a lesion far from it, or to empty its interior, it
      must be very sure.
    - Those of the subject's own appearance model (`cgckit.cgc.appearance.appearance_log_odds`), times the setting
      `appearance_weight`. It is learnt from the prior's mask, or the network's own where there is no prior.
    - Those of the starting network (`cgckit.starting`), which knows lesions in general and has seen neither scans nor
      prior, times the setting `starting_weight`; not of CT, which it was not made for.

    The network has seen the whole cohort, on a coarser grid; the prior and the appearance model this image, in full
    resolution. So these may move a lesion's edge, but a connected part of the mask of which the network alone calls
    less than the share `min_consent` lesion is doubted. It goes if the starting network calls less than half of it
    lesion too, but stays where most of the prior is (`cgckit.cgc.parts.without_false_parts`).

    A prior that is `doubtful`, as one that nothing was trained on, is weighed against the network in full, and keeps
    nothing. Without a prior the network stands for itself.
    """
    coarse = resample_case(case, settings.spacing)
    opinion = network_log_odds(network, settings, coarse.image)
    logits = _on_grid(opinion, coarse, case)
    witness = _witness(settings, case)
    support = _support(settings, logits, case, prior, witness)
    taught = None if doubtful else prior
    found = _judged(settings, logits, support, case, taught, witness)
    return found if taught is None else found._replace(learnt=_learnt(settings, opinion, coarse, case, taught))


def without_network(settings: InferenceSettings, case: Case, prior: Tensor) -> Tensor:
    """What `segment` would give if the network had no opinion: prior, appearance model and starting network alone.

    Where these have none either, as everywhere if the settings give them no weight, it is the prior as it stands.
    """
    nothing = torch.zeros(case.brain.shape)
    support = _support(settings, nothing, case, prior, _witness(settings, case))
    logits = torch.where(support == 0, prior.logit(eps=1e-6), nothing)
    return _judged(settings, logits, support, case, None, None).probability


def uncertainty(
    network: CGCNet, settings: Settings, case: Case, prior: Tensor | None = None, *, doubtful: bool = False
) -> Tensor:
    """Standard deviation of `segment`'s probability over augmented views, [H, W, L] float32, 0 outside the brain.

    There are `uncertainty_views` of them: contrast, brightness and noise vary as in training, every other one is
    mirrored; what is added to the network's log-odds is that of the image as it is. It shows how much the
    result hangs on what should not matter, not how wrong the network may be.
    """
    coarse = resample_case(case, settings.spacing)
    logits = _on_grid(network_log_odds(network, settings, coarse.image), coarse, case)
    trusted, witness = None if doubtful else prior, _witness(settings, case)
    support = _support(settings, logits, case, prior, witness)
    vary = intensity_augmentation(len(coarse.image))
    maps = []
    for view in range(settings.uncertainty_views):
        varied = vary.set_random_state(seed=view)({"image": coarse.image.clone()})["image"]
        image = convert_to_tensor(varied, track_meta=False) * coarse.brain
        # Every other view is mirrored; the mean over both, as usual, would hide what differs between them.
        turned = image.flip(1) if view % 2 else image
        logits = network_log_odds(network, settings, turned, mirror=False)
        logits = logits.flip(0) if view % 2 else logits
        found = _judged(settings, _on_grid(logits, coarse, case), support, case, trusted, witness)
        maps.append(found.probability)
    return torch.stack(maps).std(0, correction=0)


def network_log_odds(network: CGCNet, settings: Settings, image: Tensor, *, mirror: bool | None = None) -> Tensor:
    """Log-odds of lesion by the network, [H, W, L], of an image [C, H, W, L] on its working grid."""
    return infer(
        network,
        image,
        window=settings.crop,
        batch=settings.batch,
        overlap=settings.overlap,
        mirror=settings.mirror if mirror is None else mirror,
    )


def _learnt(settings: Settings, opinion: Tensor, coarse: Case, case: Case, prior: Tensor) -> float | None:
    """Of the voxels that a prior taught to call lesion, the share that the network's log-odds `opinion` do."""
    target, trusted = lesson(case, coarse, prior, settings.training)
    taught = trusted & (target >= 0.5)
    return float((opinion[taught] >= 0).float().mean()) if taught.any() else None


def _on_grid(logits: Tensor, coarse: Case, case: Case) -> Tensor:
    """Log-odds on the network's grid, brought to the case's."""
    return logits if coarse is case else transfer(logits, coarse, case)


def _support(
    settings: InferenceSettings, logits: Tensor, case: Case, prior: Tensor | None, witness: Tensor | None
) -> Tensor:
    """What is added to the network's log-odds `logits` [H, W, L]: the weighted ones of the others."""
    support = torch.zeros_like(logits)
    if prior is not None and settings.prior_weight > 0:
        support += settings.prior_weight * prior_log_odds(prior, case.spacing, reach=settings.prior_reach)
    if settings.appearance_weight > 0:
        lesion = logits >= 0 if prior is None else prior >= 0.5
        support += settings.appearance_weight * appearance_log_odds(case, lesion)
    if witness is not None:
        support += settings.starting_weight * witness.clamp(-_MOST, _MOST)
    return support


def _witness(settings: InferenceSettings, case: Case) -> Tensor | None:
    """Log-odds by the starting network, [H, W, L]; None where they are not needed, or it was not made for the scan."""
    if settings.min_consent == settings.starting_weight == 0 or is_ct(case):
        return None
    return starting_log_odds(case)


def _judged(
    settings: InferenceSettings,
    logits: Tensor,
    support: Tensor,
    case: Case,
    prior: Tensor | None,
    witness: Tensor | None,
) -> Judged:
    """Probability of lesion in the brain, without specks and what is refused, with enclosed cores.

    Cores come last: the network need not call them lesion, so they must not count against the part around them.
    """
    weight = settings.network_weight if prior is not None and settings.prior_weight > 0 else 1.0
    probability = (weight * logits + support).sigmoid() * case.brain
    found = without_false_parts(
        probability,
        logits,
        case.spacing,
        min_volume=settings.min_lesion,
        least=settings.min_consent,
        prior=prior,
        witness=None if witness is None else witness >= 0,
    )
    return found._replace(probability=with_cores(found.probability, case)) if settings.fill_cores else found
