from dataclasses import dataclass

import numpy as np
import torch

from cgckit import Case, Cohort, Prior, Settings, refine


@dataclass
class Bright(Prior):
    def predict(self, case: Case) -> torch.Tensor:
        return ((case.channel("flair") > 3) & case.brain).float()


cases = []
for number in range(3):
    scan = np.random.default_rng(number).normal(100, 10, (48, 56, 44))
    scan[20:30, 10 + 8 * number : 22 + 8 * number, 16:28] += 80  # a lesion
    cases.append(Case.from_arrays({"flair": scan}, affine=np.diag([2, 2, 2, 1]), brain=scan > 0, subject=f"s{number}"))
for subject in refine(Cohort.from_cases(cases), Bright(), "refined", settings=Settings(steps=60, crop=(24, 24, 24))):
    print(subject.label, subject.prior_ml, subject.refined_ml, subject.mask().shape)
