"""`GaussianMixturePrior`: a Gaussian mixture of brightness and asymmetry, fitted by EM to one subject."""

from __future__ import annotations

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
# Shares of the brain that are darker and brighter than the first and last mean of a start from even brightness.
_RANGE = (0.01, 0.999)
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
    `max_components`, which EM starts from even quantiles, and one mixture more that starts from even brightness and
    so finds lesions too small for a quantile; then connected parts with a faint border are dropped
    (`cgckit.lesion_evidence.regions`).

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
        common, rare = self._fit(evidence[brain])
        blocks = Blocks.cut(brain, case.spacing, _CHOICE_MM)
        coarse = blocks.mean(evidence)
        cuts = _cuts(common, rare, coarse)
        found = self.choose(case, coarse, blocks, [candidate for candidate, _ in cuts])
        if found is None:
            return self.nothing(case)
        lesion, selection = found
        mixture = next(mixture for candidate, mixture in cuts if candidate is lesion)
        note = (
            f"{lesion.total} components; lesion = the {lesion.count} brightest, from {lesion.level:.1f} MAD on, "
            f"border {selection.edge:.2f} MAD/mm"
        )
        posterior = _posterior(mixture, lesion.count, evidence)
        return self.finish(case, lesion_map(posterior, blocks, case.spacing, selection.region), note)

    def _fit(self, evidence: FloatArray) -> tuple[list[GaussianMixture], list[GaussianMixture]]:
        """Fit a mixture of each K to a sample of the evidence [N], and one more for rare lesions.

        The first start from even quantiles. None of their components reaches a lesion of a few ml, which is no even
        share of the brain: EM climbs to the nearest maximum, and leaves them all in the bulk. So the last starts from
        even brightness. Both lists are empty for a constant or tiny brain.
        """
        sample = np.random.default_rng(self.seed).permutation(evidence)[:_SAMPLES].astype(np.float64)
        sample = np.clip(sample, _DARKEST, None)[:, None]
        distinct = len(np.unique(sample))
        sizes = [k for k in range(self.min_components, self.max_components + 1) if 2 * k <= distinct]
        common = [np.quantile(sample, (np.arange(k) + 0.5) / k) for k in sizes]
        rare = [_evenly_bright(sample, k) for k in sizes[-1:]]
        return [self._em(sample, start) for start in common], [self._em(sample, start) for start in rare]

    def _em(self, sample: DoubleArray, start: DoubleArray) -> GaussianMixture:
        """A mixture fitted to voxels [N, 1] from means [K] on."""
        mixture = GaussianMixture(
            len(start), covariance_type="tied", means_init=start[:, None], random_state=self.seed, max_iter=300
        )
        return mixture.fit(sample)


def _evenly_bright(sample: DoubleArray, k: int) -> DoubleArray:
    darkest, brightest = np.quantile(sample, _RANGE)
    return np.linspace(darkest, brightest, k)


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


def _cuts(
    common: list[GaussianMixture], rare: list[GaussianMixture], evidence: FloatArray
) -> list[tuple[Candidate, GaussianMixture]]:
    """Every set of the j brightest components of every mixture that begins at another evidence.

    Those of the `rare` mixtures only complete the others: they count where they begin above all of them.
    """
    found: list[tuple[Candidate, GaussianMixture]] = []
    for mixtures in (common, rare):
        levels = [candidate.level for candidate, _ in found]
        least = max(levels, default=-np.inf) if mixtures is rare else -np.inf
        for mixture in mixtures:
            for count in range(1, mixture.n_components):
                nodes, table = _table(mixture, count, float(evidence.max()))
                # One variance for all components: the posterior rises, and its half is one point.
                level = float(nodes[min(int(np.searchsorted(table, 0.5)), _NODES - 1)])
                if level > least and all(abs(level - other) > _SAME_LEVEL for other in levels):
                    levels.append(level)
                    found.append((Candidate(mixture.n_components, count, level, evidence > level), mixture))
    return found
