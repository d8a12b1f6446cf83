"""What takes long to find out about a case is found out once, and is kept with its prior."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

import cgckit.starting.network
from cgckit.images.case import Case
from cgckit.images.grid import Grid
from cgckit.lesion_evidence.evidence import mid_sagittal
from cgckit.lesion_evidence.findings import finding, findings, recall
from cgckit.lesion_evidence.mirror import Plane
from cgckit.priors.base import Prior, predict_checked
from cgckit.starting import starting_log_odds


def case() -> Case:
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in (40, 48, 40)), indexing="ij")
    brain = sum((axis / half) ** 2 for axis, half in zip(axes, (18, 22, 18), strict=True)) < 1
    return Case.from_arrays(
        {"flair": rng.normal(100, 10, brain.shape) * brain}, affine=np.diag([3, 3, 3, 1]), brain=brain
    )


def test_a_finding_is_searched_once_a_case():
    first, second, asked = case(), case(), []

    def search() -> Tensor:
        asked.append(None)
        return torch.full((2,), float(len(asked)))

    assert finding(first, "a", search)[0] == 1
    assert finding(first, "a", search)[0] == 1
    assert finding(second, "a", search)[0] == 2
    recall(second, {"b": torch.zeros(1)})
    assert set(findings(second)) == {"a", "b"}
    assert not findings(dataclasses.replace(first))


@dataclass
class Asking(Prior):
    """Asks for the plane and the starting network, and changes the image if it is told to."""

    spoil: bool = False

    def predict(self, case: Case) -> Tensor:
        if self.spoil:
            case.image.mul_(-1)
        mid_sagittal(case)
        starting_log_odds(case)
        return torch.zeros(case.brain.shape)


def test_what_a_prior_found_out_is_known_of_the_case_after_it(monkeypatch: pytest.MonkeyPatch):
    asked = case()
    predict_checked(Asking(), asked)
    monkeypatch.setattr(Plane, "find", None)
    monkeypatch.setattr(cgckit.starting.network, "infer", None)
    mid_sagittal(asked)
    known = starting_log_odds(asked)
    monkeypatch.undo()
    assert torch.equal(known, starting_log_odds(case()))
    assert known.is_contiguous()


def test_what_a_prior_found_out_about_images_that_it_changed_is_forgotten():
    asked = case()
    predict_checked(Asking(spoil=True), asked)
    assert not findings(asked)


def test_a_plane_is_the_same_plane_on_a_grid_with_another_corner():
    normal = np.array([1.0, 0.1, -0.05])
    fine = Grid((31, 40, 37), np.diag([1.0, 1.2, 0.9, 1.0]))
    coarse = fine.isotropic(2.0)
    plane = Plane(normal / np.linalg.norm(normal), 15.0)
    moved = plane.on(fine, coarse)
    for point in np.random.default_rng(0).uniform(0, 30, (5, 3)):  # in the world
        distances = []
        for grid, one in ((fine, plane), (coarse, moved)):
            voxel = np.linalg.solve(grid.affine, [*point, 1.0])[:3]
            distances.append(one.normal @ ((voxel + 0.5) * grid.spacing) - one.offset)
        assert distances[0] == pytest.approx(distances[1])
