"""`Maps`: what a run wrote about one subject, beside the scan that it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cgckit.arrays import BoolArray, FloatArray
from cgckit.derivatives import Derivatives, image_of
from cgckit.errors import BadInputError
from cgckit.images.volume import Volume

PRIOR, REFINED, PROBABILITY, UNCERTAINTY = "prior", "refined", "probability", "uncertainty"


@dataclass(frozen=True, eq=False)
class Maps:
    """A subject's scan and maps, all [H, W, L] on the scan's grid.

    Attributes:
        scan: on whose grid the run wrote.
        probabilities: float32 of `prior` (or of several, by their names) and `refined`; those that there are.
        uncertainty: standard deviation of the refined probability; None where the run wrote none.
        brain: None where the run wrote none.
    """

    scan: Volume
    probabilities: Mapping[str, FloatArray]
    uncertainty: FloatArray | None
    brain: BoolArray | None

    @classmethod
    def load(cls, results: Derivatives, label: str) -> Maps:
        """Read what there is of a subject.

        Raises:
            BadInputError: there is no map of it, or a file that cannot be read; the scan may lie elsewhere by now.
            ValueError: a map is not on the scan's grid.
        """
        priors = results.prior_probabilities(label)
        files = {PRIOR if len(priors) == 1 else f"{PRIOR} {index}": path for index, path in enumerate(priors)}
        if results.refined_mask(label).exists():
            refined = results.refined_probability(label)
            files[REFINED] = refined if refined.exists() else results.refined_mask(label)
        if not files:
            raise BadInputError(f"{results.root}: there is no map of sub-{label}; was it removed?")
        scan = Volume.load(image_of(next(iter(files.values()))))
        maps = {name: _on_grid(Volume.load(path, allow_constant=True), scan) for name, path in files.items()}
        spread, brain = results.refined_uncertainty(label), results.brain_mask(label)
        return cls(
            scan,
            maps,
            _on_grid(Volume.load(spread, allow_constant=True), scan) if spread.exists() else None,
            _on_grid(Volume.load(brain, allow_constant=True), scan) >= 0.5 if brain.exists() else None,
        )

    def masks(self) -> dict[str, BoolArray]:
        """Where each probability is 0.5 or more."""
        return {name: probability >= 0.5 for name, probability in self.probabilities.items()}

    def undecided_ml(self) -> float | None:
        """Volume where the refined probability is nearer to 0.5 than its standard deviation; None without that."""
        refined = self.probabilities.get(REFINED)
        if self.uncertainty is None or refined is None:
            return None
        voxels = int((np.abs(refined - 0.5) < self.uncertainty).sum())
        return voxels * float(np.prod(self.scan.grid.spacing)) / 1000


def _on_grid(map_: Volume, scan: Volume) -> FloatArray:
    if map_.array.shape != scan.array.shape:
        raise ValueError(f"{map_.path} is not on the grid of {scan.path}")
    return map_.array
