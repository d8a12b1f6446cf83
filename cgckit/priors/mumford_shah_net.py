"""`MumfordShahNetPrior`: the Mumford-Shah functional as the loss of a network that is trained on the cohort."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from cgckit.images.case import Case
from cgckit.nets import residual_block, train, up_block
from cgckit.priors.base import Prior
from cgckit.priors.coarse import Blocks, FloatArray, Spacing
from cgckit.priors.evidence import lesion_evidence, smooth
from cgckit.priors.mumford_shah import Phases, choose_phases, phase_cost, start_means
from cgckit.priors.ranges import FUNCTIONAL, POSITIVE, at_least, check_ranges
from cgckit.priors.regions import lesion_map

_log = logging.getLogger(__name__)

_SPACING = 2.0
_DARKEST = -3.0
_STRIDE = 4
_CROP = 48
_SAMPLES = 5_000
_EDGE_SMOOTHING_MM = 0.7
# Of the running sums that the means are quotients of.
_MEMORY = 0.95
_REPORT_EVERY = 10


class Correction(nn.Module):
    """A small U-Net that says, from the evidence around a voxel, how each phase's cost should be corrected."""

    def __init__(self, phases: int, width: int) -> None:
        super().__init__()
        self.stem = residual_block(1, width)
        self.down = nn.ModuleList(
            [residual_block(width, 2 * width, stride=2), residual_block(2 * width, 4 * width, stride=2)]
        )
        self.up = nn.ModuleList([up_block(4 * width, 2 * width), up_block(2 * width, width)])
        self.head = nn.Conv3d(width, phases, kernel_size=1)
        # The first partition is that of the costs alone.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, evidence: Tensor) -> Tensor:
        """[B, 1, H, W, L] to [B, K, H, W, L]; sizes must be multiples of 4."""
        fine = self.stem(evidence)
        middle = self.down[0](fine)
        coarse = self.down[1](middle)
        correction: Tensor = self.head(self.up[1](self.up[0](coarse, middle), fine))
        return correction


@dataclass
class MumfordShahNetPrior(Prior):
    """Lesion phases of a network whose loss is the Mumford-Shah functional (Kim and Ye), trained without labels.

        L = (1 / |brain|) sum_x [ sum_n d_n y_n + y_n log y_n + length sum_n |grad y_n| ],   d_n = (e - c_n)^2 / (2 s^2)
        y = softmax(f(e) - d)

    It is the functional of `cgckit.priors.mumford_shah`, on the same evidence `e`; instead of solving for the partition
    of each subject, a small U-Net `f` learns on a 2 mm grid what all subjects' partitions have in common. The
    means `c_n` are those of the cohort: running quotients of `sum(e y_n)` and `sum(y_n)` over the steps, from
    one-dimensional k-means. A network that saw means of single crops would have to know which phases a crop lacks.
    Lesion is a set of brightest phases, chosen for each subject as in the direct solver. On the case's own grid `f` is
    interpolated, the costs are computed anew, so the boundary is as fine as the image.

    Attributes:
        phases: number of phases, at least 3.
        length: weight of the boundary in mm; larger gives smoother lesions.
        softness: width of the transition between phases as a share of their spread.
        asymmetry: weight of the left-right difference; 0 switches it off.
        floor: lesion begins at least this many MADs above the brain's median.
        min_component: connected parts with less than this share of the largest part's mass are dropped.
        min_edge: connected parts whose border has less than this share of the mean slope are dropped.
        steps: of the training, each on a crop of 96 mm of one subject.
        learning_rate: Adam's, at the first step.
        width: channels at the full resolution.
        seed: of the initial weights and the training.
    """

    summary: ClassVar[str] = "Mumford-Shah functional as the loss of a small network trained on the cohort"
    requires_fit: ClassVar[bool] = True

    phases: int = 8
    length: float = 2.0
    softness: float = 0.5
    asymmetry: float = 0.5
    floor: float = 1.5
    min_component: float = 0.1
    min_edge: float = 0.5
    steps: int = 100
    learning_rate: float = 3e-3
    width: int = 8
    seed: int = 0
    choice: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ranges = FUNCTIONAL | {"steps": at_least(1), "learning_rate": POSITIVE, "width": at_least(1)}
        check_ranges("mumford-shah-net", self, ranges)
        self._network: Correction | None = None
        self._means = torch.zeros(0)
        self._spread = 1.0

    def fit(self, cases: Sequence[Case]) -> Self:
        """Train the network on all cases, without labels."""
        volumes = []
        for case in cases:
            _, _, blocks, evidence = self._coarse(case)
            volumes.append((torch.from_numpy(evidence).clamp(min=_DARKEST), torch.from_numpy(blocks.brain)))
        spacing = (_SPACING,) * 3
        random = np.random.default_rng(self.seed)
        sample = np.concatenate([random.permutation(e[brain].numpy())[:_SAMPLES] for e, brain in volumes])
        means, self._spread = start_means(sample, self.phases, self.softness)
        mass = torch.ones(len(means))
        moment = means.clone()

        def step(network: nn.Module, index: int) -> dict[str, Tensor]:
            evidence, brain = _crop(*volumes[int(torch.randint(len(volumes), ()))])
            cost = phase_cost(evidence, moment / mass, self._spread)
            membership = torch.softmax(network(evidence[None, None])[0] - cost, 0)
            with torch.no_grad():
                inside = membership[:, brain]
                share = inside.sum(1) / brain.sum().clamp(min=1)
                first = inside @ evidence[brain] / brain.sum().clamp(min=1)
                mass.mul_(_MEMORY).add_(share, alpha=1 - _MEMORY)
                moment.mul_(_MEMORY).add_(first, alpha=1 - _MEMORY)
            return functional(membership, cost, brain, spacing, self.length)

        def report(index: int, terms: dict[str, float]) -> None:
            if (index + 1) % _REPORT_EVERY == 0:
                _log.info("mumford-shah-net: step %d of %d, functional %.3f", index + 1, self.steps, terms["loss"])

        # The k-means' shares of the brain, so that the first crops do not throw the means about.
        with torch.no_grad():
            nearest = (torch.from_numpy(sample)[:, None] - means).abs().argmin(1)
            mass.copy_(torch.bincount(nearest, minlength=len(means)).clamp(min=1) / len(sample))
            moment.copy_(means * mass)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = Correction(len(means), self.width)
            train(
                network,
                step,
                steps=self.steps,
                learning_rate=self.learning_rate,
                schedule="cosine",
                seed=self.seed,
                on_step=report,
            )
        self._network, self._means = network, moment / mass
        return self

    @torch.no_grad()
    def predict(self, case: Case) -> Tensor:
        """Return the membership of the lesion phases, [H, W, L] float32 in [0, 1], 0 outside the brain.

        Raises:
            RuntimeError: if neither `fit` nor `load_state` was called before.
        """
        if self._network is None:
            raise RuntimeError("mumford-shah-net has learned nothing yet: call fit first")
        full, brain, blocks, coarse = self._coarse(case)
        evidence = torch.from_numpy(coarse)
        correction = _whole(self._network, evidence.clamp(min=_DARKEST))
        cost = phase_cost(evidence.clamp(min=_DARKEST), self._means, self._spread)
        order = self._means.argsort()
        membership = (torch.softmax(correction - cost, 0) * torch.from_numpy(blocks.brain))[order]
        phases = Phases(self._means[order], self._spread, membership, 0.0, 0)
        found, self.choice = choose_phases(
            phases, coarse, blocks, floor=self.floor, min_component=self.min_component, min_edge=self.min_edge
        )
        if found is None:
            return torch.zeros(case.brain.shape)
        lesion, selection = found
        edge = torch.from_numpy(smooth(full, brain, case.spacing, _EDGE_SMOOTHING_MM)).clamp(min=_DARKEST)
        fine = phase_cost(edge, self._means, self._spread).neg_()
        for phase, coarse_phase in zip(fine, correction, strict=True):
            phase.add_(torch.from_numpy(blocks.enlarge(coarse_phase.numpy())))
        share = torch.softmax(fine, 0)[order[-lesion.count :]].sum(0)
        return torch.from_numpy(lesion_map(share.numpy(), blocks, case.spacing, selection.region))

    def state(self) -> Mapping[str, Tensor]:
        """The network's weights, the means [K] and the width of the transition."""
        if self._network is None:
            return {}
        return {
            "means": self._means,
            "spread": torch.tensor([self._spread], dtype=torch.float64),
            **{f"network.{name}": value for name, value in self._network.state_dict().items()},
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned."""
        self._means, self._spread = state["means"], float(state["spread"])
        with torch.random.fork_rng(devices=[]):
            self._network = Correction(len(self._means), self.width)
        weights = {k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")}
        self._network.load_state_dict(weights)
        self._network.eval()

    def _coarse(self, case: Case) -> tuple[FloatArray, np.ndarray, Blocks, FloatArray]:
        """The evidence [H, W, L] and brain of a case, the blocks of 2 mm, and the evidence [h, w, l] there."""
        brain = case.brain.numpy()
        evidence = lesion_evidence(case, smoothing=0, asymmetry_weight=self.asymmetry)
        blocks = Blocks.cut(brain, case.spacing, _SPACING)
        return evidence, brain, blocks, blocks.mean(evidence)


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
    """A random crop of at most 48 voxels along each axis, flipped at random, padded to multiples of the stride."""
    for axis in range(3):
        size = evidence.shape[axis]
        extent = min(size, _CROP)
        start = int(torch.randint(size - extent + 1, ()))
        evidence, brain = evidence.narrow(axis, start, extent), brain.narrow(axis, start, extent)
        if bool(torch.rand(()) < 0.5):
            evidence, brain = evidence.flip(axis), brain.flip(axis)
    return _pad(evidence), _pad(brain)


def _pad(volume: Tensor) -> Tensor:
    padding = [amount for size in reversed(volume.shape) for amount in (0, -size % _STRIDE)]
    return F.pad(volume, padding)


def _whole(network: nn.Module, evidence: Tensor) -> Tensor:
    """The network's answer for a whole volume, [K, h, w, l]."""
    h, w, l = evidence.shape  # noqa: E741
    answer: Tensor = network(_pad(evidence)[None, None])[0, :, :h, :w, :l]
    return answer
