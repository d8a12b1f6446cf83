"""The objective: each term against its definition, each path switchable, and the figures that are logged."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from cgckit.cgc.network import CGCOutput
from cgckit.cgc.objective import Objective
from cgckit.contrast import patch_contrastive_loss


def make_batch() -> tuple[CGCOutput, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    output = CGCOutput(torch.randn(2, 1, 32, 32, 32), torch.randn(2, 1, 4, 4, 4), torch.randn(2, 5, 4, 4, 4))
    prior = torch.zeros(2, 32, 32, 32)
    prior[0, :20, :20, :20] = 1.0
    prior[1, :4, :4, :4] = 1.0
    brain = torch.zeros(2, 32, 32, 32, dtype=torch.bool)
    brain[:, :28] = True
    return output, prior, brain


def test_segmentation_is_the_mean_cross_entropy_inside_the_brain() -> None:
    output, prior, brain = make_batch()
    terms = Objective((2, 2, 2))(output, prior, brain)
    expected = F.binary_cross_entropy_with_logits(output.lesion[:, 0][brain], prior[brain])
    torch.testing.assert_close(terms["segmentation"], expected)


def test_coarse_head_is_compared_with_the_prior_averaged_onto_its_grid() -> None:
    output, prior, brain = make_batch()
    terms = Objective((2, 2, 2))(output, prior, brain)
    averaged = prior.reshape(2, 4, 8, 4, 8, 4, 8).mean((2, 4, 6))
    torch.testing.assert_close(terms["coarse"], F.binary_cross_entropy_with_logits(output.coarse[:, 0], averaged))


def test_fine_path_takes_its_classes_from_the_averaged_prior() -> None:
    output, prior, brain = make_batch()
    terms = Objective((2, 2, 2), patch_threshold=0.2, temperature=0.5)(output, prior, brain)
    averaged = F.avg_pool3d(prior[:, None], 8)[:, 0]
    expected = patch_contrastive_loss(output.embedding, averaged, patch_size=(2, 2, 2), threshold=0.2, temperature=0.5)
    assert expected > 0
    torch.testing.assert_close(terms["fine"], expected)


def test_the_scope_says_whose_patches_are_contrasted() -> None:
    output, prior, brain = make_batch()
    for scope in ("image", "batch"):
        fine = Objective((2, 2, 2), patch_threshold=0.01, scope=scope)(output, prior, brain)["fine"]
        averaged = F.avg_pool3d(prior[:, None], 8)[:, 0]
        options = {"patch_size": (2, 2, 2), "threshold": 0.01, "temperature": 0.2}
        torch.testing.assert_close(fine, patch_contrastive_loss(output.embedding, averaged, scope=scope, **options))


def test_the_loss_is_the_weighted_sum() -> None:
    output, prior, brain = make_batch()
    terms = Objective((2, 2, 2), weight_coarse=0.5, weight_fine=2.0)(output, prior, brain)
    torch.testing.assert_close(terms["loss"], terms["segmentation"] + 0.5 * terms["coarse"] + 2.0 * terms["fine"])


def test_a_weight_of_zero_switches_a_path_off() -> None:
    output, prior, brain = make_batch()
    terms = Objective((2, 2, 2), weight_coarse=0, weight_fine=0)(output, prior, brain)
    assert not {"coarse", "fine", "positives"} & terms.keys()
    torch.testing.assert_close(terms["loss"], terms["segmentation"])


def test_activity_of_the_fine_path_is_logged_by_crop() -> None:
    output, prior, brain = make_batch()
    terms = Objective((2, 2, 2), patch_threshold=0.1)(output, prior, brain)
    # The first crop's lesion fills 20 of 32 voxels along each axis: all eight patches hold 1/64 of it or more, those
    # with one partial axis 16*16*4/4096 = 1/4; with two 1/16; so 1 + 3 are positive at a threshold of 0.1.
    assert terms["positives"] == (4 + 0) / 2
    assert terms["fine_share"] == 0.5


def test_mean_output_inside_the_brain_is_logged() -> None:
    output, prior, brain = make_batch()
    constant = output._replace(lesion=torch.full((2, 1, 32, 32, 32), math.log(3.0)))
    assert abs(Objective((2, 2, 2))(constant, prior, brain)["lesion_mean"] - 0.75) < 1e-6
