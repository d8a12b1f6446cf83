"""`GaussianMixturePrior`: a Gaussian mixture of brightness and asymmetry, fitted by EM to one subject."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from sklearn.mixture import GaussianMixture

from cgckit.arrays import DoubleArray, FloatArray
from cgckit.errors import UsageError
from cgckit.images.case import Case
from cgckit.lesion_evidence.blocks import Blocks
from cgckit.lesion_evidence.choice import Candidate
from cgckit.lesion_evidence.regions import lesion_map
from cgckit.options import SEED, Range
from cgckit.priors.base import Prediction
from cgckit.priors.lesion_rule import LesionRule

_SAMPLES = 20_000
_NODES = 4_000
_CHOICE_MM = 2.0
# Two cuts that lie closer than this, in MADs, are one.
_SAME_LEVEL = 0.05
# Fluid is far darker than tissue and never lesion here; left as it is, it would inflate the shared variance.
_DARKEST = -3.0


@dataclass
class GaussianMixturePrior(LesionRule):
    """Posterior of the lesion components of a Gaussian mixture (Yu, Zhao et al., Eq. 2-5).

        p(e) = sum_k w_k N(e; mu_k, sigma^2),     P = sum_{k in lesion} w_k N(e; mu_k, sigma^2) / p(e)

    `e` is the lesion evidence of `cgckit.lesion_evidence`: smoothed FLAIR and its left-right asymmetry (and
    that of T2, so several modalities enter through one number). The components share one variance, so that
    the posterior rises with the evidence; with free variances a wide component takes both tails of the
    histogram, and dark voxels become lesion. K and the set of lesion components are chosen together by the
    steepness of the lesion's border (`cgckit.lesion_evidence.choice`), over all K between `min_components` and
    `max_components`; then connected parts with a faint border are dropped (`cgckit.lesion_evidence.regions`).

    Attributes:
        min_components: fewest components to try.
        max_components: most components to try.
        smoothing: Gaussian smoothing of the main channel before the fit, standard deviation in mm.
        seed: of the voxel sample that the mixture is fitted to.
    """

    summary: ClassVar[str] = "Gaussian mixture by EM on FLAIR and its left-right asymmetry"
    cost: ClassVar[str] = "seconds a subject"

    min_components: Annotated[int, Range(2, 100)] = 4
    max_components: Annotated[int, Range(2, 100)] = 10
    smoothing: Annotated[float, Range(0, 100)] = 1.0
    seed: Annotated[int, SEED] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_components > self.max_components:
            raise UsageError(
                f"gmm: need min_components <= max_components, got {self.min_components} and {self.max_components}"
            )

    def predict(self, case: Case) -> Prediction:
        """Return the posterior of lesion, [H, W, L] float32 in [0, 1], 0 outside the brain."""
        brain = case.brain.numpy()
        evidence = self.evidence(case, self.smoothing)
        mixtures = self._fit(evidence[brain])
        blocks = Blocks.cut(brain, case.spacing, _CHOICE_MM)
        coarse = blocks.mean(evidence)
        found = self.choose(case, coarse, blocks, _candidates(mixtures, coarse))
        if found is None:
            return self.nothing(case)
        lesion, selection = found
        note = (
            f"{lesion.total} components; lesion = the {lesion.count} brightest, from {lesion.level:.1f} MAD on, "
            f"border {selection.edge:.2f} MAD/mm"
        )
        posterior = _posterior(mixtures[lesion.total], lesion.count, evidence)
        return self.finish(case, lesion_map(posterior, blocks, case.spacing, selection.region), note)

    def _fit(self, evidence: FloatArray) -> dict[int, GaussianMixture]:
        """Fit one mixture for each K to a sample of the evidence [N]; none to a constant or tiny brain."""
        sample = np.random.default_rng(self.seed).permutation(evidence)[:_SAMPLES].astype(np.float64)
        sample = np.clip(sample, _DARKEST, None)[:, None]
        mixtures = {}
        for k in range(self.min_components, self.max_components + 1):
            if len(np.unique(sample)) < 2 * k:
                break
            start = np.quantile(sample, (np.arange(k) + 0.5) / k)[:, None]
            mixture = GaussianMixture(k, covariance_type="tied", means_init=start, random_state=self.seed, max_iter=300)
            mixtures[k] = mixture.fit(sample)
        return mixtures


def _posterior(mixture: GaussianMixture, count: int, evidence: FloatArray) -> FloatArray:
    """Posterior of the `count` brightest components at each voxel, in the shape of `evidence`.

    The posterior is a smooth function of one number, so a fine table of it serves millions of voxels.
    """
    nodes, table = _table(mixture, count, float(evidence.max()))
    posterior: FloatArray = np.interp(evidence, nodes, table).astype(np.float32)
    return posterior


def _table(mixture: GaussianMixture, count: int, highest: float) -> tuple[DoubleArray, ...]:
    """Evidence up to `highest`, and the posterior of the `count` brightest components there."""
    nodes = np.linspace(_DARKEST, max(highest, _DARKEST + 1), _NODES)
    brightest = np.argsort(mixture.means_[:, 0])[-count:]
    return nodes, mixture.predict_proba(nodes[:, None])[:, brightest].sum(axis=1)


def _candidates(mixtures: dict[int, GaussianMixture], evidence: FloatArray) -> Iterator[Candidate]:
    """Every set of the j brightest components of every mixture that begins at another evidence."""
    levels: list[float] = []
    for k, mixture in mixtures.items():
        for count in range(1, k):
            nodes, table = _table(mixture, count, float(evidence.max()))
            # One variance for all components: the posterior rises, and its half is one point.
            level = float(nodes[min(int(np.searchsorted(table, 0.5)), _NODES - 1)])
            if all(abs(level - other) > _SAME_LEVEL for other in levels):
                levels.append(level)
                yield Candidate(k, count, level, evidence > level)
