"""`MumfordShahNetPrior`: the Mumford-Shah functional as the loss of a network that is trained on the cohort."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from cgckit.arrays import FloatArray, Spacing
from cgckit.images.case import Case
from cgckit.lesion_evidence.blocks import Blocks
from cgckit.lesion_evidence.evidence import smooth
from cgckit.lesion_evidence.regions import lesion_map
from cgckit.nets import residual_block, train, up_block
from cgckit.options import POSITIVE, SEED, Range
from cgckit.priors.base import Prediction
from cgckit.priors.phases import MumfordShahRule, Phases, half_at_level, phase_cost, phase_means, start_means

_log = logging.getLogger(__name__)

_SPACING = 2.0
_STRIDE = 4
_CROP = 32
# One crop at a time would be slower by far: torch's quick convolutions begin at two.
_BATCH = 4
_EDGE_SMOOTHING_MM = 0.7
_MEANS_TOLERANCE = 0.05
_MOST_ROUNDS = 8
_REPORT_EVERY = 10


class Correction(nn.Module):
    """A small U-Net that says, from the phases around a voxel, how each phase's cost should be corrected.

    Its input is the partition of the costs alone, `softmax(-d)`: what the boundary's length asks for depends on which
    phases the neighbours prefer, and to read that off the evidence it would have to learn every phase's mean first.
    """

    def __init__(self, phases: int, width: int) -> None:
        super().__init__()
        self.stem = residual_block(phases, width)
        self.down = nn.ModuleList(
            [residual_block(width, 2 * width, stride=2), residual_block(2 * width, 4 * width, stride=2)]
        )
        self.up = nn.ModuleList([up_block(4 * width, 2 * width), up_block(2 * width, width)])
        self.head = nn.Conv3d(width, phases, kernel_size=1)
        # The first partition is that of the costs alone.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, partition: Tensor) -> Tensor:
        """[B, K, H, W, L] to the same; sizes must be multiples of 4."""
        fine = self.stem(partition)
        middle = self.down[0](fine)
        coarse = self.down[1](middle)
        correction: Tensor = self.head(self.up[1](self.up[0](coarse, middle), fine))
        return correction


@dataclass
class MumfordShahNetPrior(MumfordShahRule):
    """Lesion phases of a network whose loss is the Mumford-Shah functional (Kim and Ye), trained without labels.

        L = (1 / |brain|) sum_x [ sum_n d_n y_n + y_n log y_n + length sum_n |grad y_n| ],   d_n = (e - c_n)^2 / (2 s^2)
        y = softmax(f(softmax(-d)) - d)

    It is the functional of `cgckit.priors.mumford_shah`, on the same evidence `e`; instead of solving for the partition
    of each subject, a small U-Net `f` learns on a 2 mm grid what all subjects' partitions have in common. The
    means `c_n` and the width `s` are each subject's own: from one-dimensional k-means, held in training; at
    prediction they alternate with the network until they move less than 0.05 MAD. Lesion is where the image
    `u = sum_n c_n y_n` is above a level, chosen for each subject as in the direct solver. On the case's own grid `f` is
    interpolated, the costs are computed anew, so the boundary is as fine as the image.

    Attributes:
        steps: of the training, each on four crops of 64 mm.
        learning_rate: Adam's, at the first step.
        width: channels at the full resolution.
        seed: of the initial weights and the training.
    """

    summary: ClassVar[str] = "Mumford-Shah functional as the loss of a small network trained on the cohort"
    cost: ClassVar[str] = "a minute a cohort, seconds a subject"

    steps: Annotated[int, Range(1, 1e6)] = 150
    learning_rate: Annotated[float, POSITIVE] = 1e-2
    width: Annotated[int, Range(1, 256)] = 8
    seed: Annotated[int, SEED] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._network: Correction | None = None

    def fit(self, cases: Sequence[Case]) -> Self:
        """Train the network on all cases, without labels."""
        volumes = []
        for case in cases:
            _, blocks, evidence = self._coarse(case)
            brain = torch.from_numpy(blocks.brain)
            volumes.append((torch.from_numpy(evidence), brain, *self._start(evidence[blocks.brain])))
        spacing = (_SPACING,) * 3

        def step(network: nn.Module, index: int) -> dict[str, Tensor]:
            costs, brains = [], []
            for _ in range(_BATCH):
                evidence, brain, means, width = volumes[int(torch.randint(len(volumes), ()))]
                evidence, brain = _crop(evidence, brain)
                costs.append(phase_cost(evidence, means, width))
                brains.append(brain)
            cost = torch.stack(costs)
            memberships = torch.softmax(network(torch.softmax(-cost, 1)) - cost, 1)
            crops = [functional(*crop, spacing, self.length) for crop in zip(memberships, costs, brains, strict=True)]
            return {name: torch.stack([terms[name] for terms in crops]).mean() for name in crops[0]}

        def report(index: int, terms: dict[str, float]) -> None:
            if (index + 1) % _REPORT_EVERY == 0:
                _log.info("mumford-shah-net: step %d of %d, functional %.3f", index + 1, self.steps, terms["loss"])

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = Correction(self.phases, self.width)
            train(
                network,
                step,
                steps=self.steps,
                learning_rate=self.learning_rate,
                schedule="cosine",
                seed=self.seed,
                on_step=report,
            )
        self._network = network
        return self

    @torch.no_grad()
    def predict(self, case: Case) -> Prediction:
        """Return the membership of the lesion side, [H, W, L] float32 in [0, 1], 0 outside the brain.

        Raises:
            RuntimeError: if neither `fit` nor `load_state` was called before.
        """
        if self._network is None:
            raise RuntimeError("mumford-shah-net has learned nothing yet: call fit first")
        full, blocks, coarse = self._coarse(case)
        evidence, brain = torch.from_numpy(coarse), torch.from_numpy(blocks.brain)
        moved, width = self._start(coarse[blocks.brain])
        for _ in range(_MOST_ROUNDS):
            means = moved
            cost = phase_cost(evidence, means, width)
            correction = _whole(self._network, cost)
            membership = torch.softmax(correction - cost, 0)
            moved = phase_means(membership, evidence, brain, means)
            if (moved - means).abs().max() < _MEANS_TOLERANCE:
                break
        order = means.argsort()
        phases = Phases(means[order], width, (membership * brain)[order], 0.0, 0)
        found = self.choose_level(case, phases, coarse, blocks)
        if found is None:
            return self.nothing(case)
        lesion, selection, note = found
        edge = torch.from_numpy(smooth(full, blocks.fine, case.spacing, _EDGE_SMOOTHING_MM))
        fine = phase_cost(edge, means, width).neg_()
        for phase, coarse_phase in zip(fine, correction, strict=True):
            phase.add_(torch.from_numpy(blocks.enlarge(coarse_phase.numpy())))
        share = torch.softmax(fine, 0)[order[-lesion.count :]].sum(0)
        lesion_share = half_at_level(share, phases, lesion).numpy()
        return self.finish(case, lesion_map(lesion_share, blocks, case.spacing, selection.region), note)

    def state(self) -> Mapping[str, Tensor]:
        """The network's weights."""
        return {} if self._network is None else dict(self._network.state_dict())

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned."""
        with torch.random.fork_rng(devices=[]):
            self._network = Correction(self.phases, self.width)
        self._network.load_state_dict(state)
        self._network.eval()

    def _coarse(self, case: Case) -> tuple[FloatArray, Blocks, FloatArray]:
        """The evidence [H, W, L] of a case, the blocks of 2 mm, and the evidence [h, w, l] there."""
        evidence = self.evidence(case)
        blocks = Blocks.cut(case.brain.numpy(), case.spacing, _SPACING)
        return evidence, blocks, blocks.mean(evidence)

    def _start(self, evidence: FloatArray) -> tuple[Tensor, float]:
        """Means [K] and `s` of the brain's evidence [N]; too few values leave the last phases empty."""
        means, width = start_means(evidence, self.phases, self.softness)
        return F.pad(means[None], (0, self.phases - len(means)), mode="replicate")[0], width


def functional(membership: Tensor, cost: Tensor, brain: Tensor, spacing: Spacing, length: float) -> dict[str, Tensor]:
    """The functional per voxel of the brain, and its parts; see `MumfordShahNetPrior`.

    Args:
        membership: [K, H, W, L], `y`.
        cost: [K, H, W, L], `d`.
        brain: [H, W, L] bool; no gradient is taken across its edge.
        spacing: voxel edge lengths in mm.
        length: weight of the boundary in mm.
    """
    count = brain.sum().clamp(min=1)
    fit = ((cost * membership + torch.xlogy(membership, membership)) * brain).sum() / count
    squared = torch.zeros_like(membership)
    for axis, edge in enumerate(spacing):
        size = brain.shape[axis] - 1
        both = brain.narrow(axis, 0, size) & brain.narrow(axis, 1, size)
        slope = torch.diff(membership, dim=axis + 1) * both / edge
        after = [0, 0] * (2 - axis) + [0, 1]
        squared = squared + F.pad(slope.square(), after)
    # A root without slope at 0 has no gradient there.
    boundary = ((squared + 1e-8).sqrt() * brain).sum() / count
    return {"loss": fit + length * boundary, "fit": fit, "boundary": boundary}


def _crop(evidence: Tensor, brain: Tensor) -> tuple[Tensor, Tensor]:
    """A random crop of 32 voxels along each axis, flipped at random; a shorter axis is padded."""
    for axis in range(3):
        size = evidence.shape[axis]
        extent = min(size, _CROP)
        start = int(torch.randint(size - extent + 1, ()))
        evidence, brain = evidence.narrow(axis, start, extent), brain.narrow(axis, start, extent)
        if bool(torch.rand(()) < 0.5):
            evidence, brain = evidence.flip(axis), brain.flip(axis)
    return _pad(evidence, _CROP), _pad(brain, _CROP)


def _pad(volume: Tensor, multiple: int) -> Tensor:
    """Zeros after the last voxels of [..., H, W, L], up to multiples of `multiple`."""
    padding = [amount for size in reversed(volume.shape[-3:]) for amount in (0, -size % multiple)]
    return F.pad(volume, padding)


def _whole(network: nn.Module, cost: Tensor) -> Tensor:
    """The network's correction of a whole volume's costs, [K, h, w, l] both."""
    h, w, l = cost.shape[1:]  # noqa: E741
    correction: Tensor = network(_pad(torch.softmax(-cost, 0), _STRIDE)[None])[0, :, :h, :w, :l]
    return correction
