from dataclasses import dataclass

import numpy as np
import torch

import cgckit


@dataclass
class Bright(cgckit.Prior):
    """Calls everything lesion that is far brighter than the brain's median."""

    def predict(self, case: cgckit.Case) -> torch.Tensor:
        return ((case.channel("flair") > 3) & case.brain).float()


cases = []
for number in range(3):
    flair = np.random.default_rng(number).normal(100, 10, (48, 56, 44))
    flair[20:30, 10 + 8 * number : 22 + 8 * number, 16:28] += 80  # a lesion
    where = {"affine": np.diag([2, 2, 2, 1]), "brain": np.ones(flair.shape)}
    cases.append(cgckit.Case.from_arrays({"flair": flair}, **where, subject=f"case{number}"))
cohort = cgckit.Cohort.from_cases(cases)
settings = cgckit.Settings(steps=60, spacing=4, crop=(24, 24, 24))
for subject in cgckit.refine(cohort, Bright(), "refined", settings=settings):
    print(subject.label, subject.prior_ml, subject.refined_ml, subject.mask().shape)
