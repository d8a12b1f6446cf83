"""The objective: each term against its definition, each path switchable, and the figures that are logged."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from cgckit.cgc.objective import Objective
from cgckit.contrast import patch_contrastive_loss
from cgckit.nets.cgc_net import CGCOutput


def make_batch() -> tuple[CGCOutput, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    output = CGCOutput(torch.randn(2, 1, 32, 32, 32), torch.randn(2, 1, 4, 4, 4), torch.randn(2, 5, 4, 4, 4))
    prior = torch.zeros(2, 32, 32, 32)
    prior[0, :20, :20, :20] = 1.0
    prior[1, :4, :4, :4] = 1.0
    trusted = torch.zeros(2, 32, 32, 32, dtype=torch.bool)
    trusted[:, :28] = True
    return output, prior, trusted


def test_segmentation_is_the_mean_cross_entropy_on_the_trusted_voxels() -> None:
    output, prior, trusted = make_batch()
    terms = Objective((2, 2, 2))(output, prior, trusted)
    expected = F.binary_cross_entropy_with_logits(output.lesion[:, 0][trusted], prior[trusted])
    torch.testing.assert_close(terms["segmentation"], expected)


def test_coarse_head_is_compared_with_the_mean_prior_of_each_cells_trusted_voxels() -> None:
    output, prior, trusted = make_batch()
    trusted[0, 18:22] = False  # the third row of cells keeps voxels of both classes, in other shares than it had
    terms = Objective((2, 2, 2))(output, prior, trusted)
    cells = lambda volume: volume.reshape(2, 4, 8, 4, 8, 4, 8).transpose(2, 3).transpose(3, 5).flatten(4)  # noqa: E731
    expected = torch.zeros(())
    for logit, labels, kept in zip(
        output.coarse.flatten(), cells(prior).reshape(-1, 512), cells(trusted).reshape(-1, 512), strict=True
    ):
        if kept.any():
            expected += kept.sum() * F.binary_cross_entropy_with_logits(logit, labels[kept].mean())
    torch.testing.assert_close(terms["coarse"], expected / trusted.sum())


def test_fine_path_takes_its_classes_from_the_averaged_prior() -> None:
    output, prior, trusted = make_batch()
    terms = Objective((1, 1, 1), patch_threshold=0.2, temperature=0.5)(output, prior, trusted)
    averaged = F.avg_pool3d(prior[:, None], 8)[:, 0]
    options = {"patch_size": 1, "threshold": 0.2, "temperature": 0.5}
    expected = patch_contrastive_loss(output.embedding, averaged, mask=torch.ones(2, 4, 4, 4).bool(), **options)
    assert expected > 0
    torch.testing.assert_close(terms["fine"], expected)


def test_the_scope_says_whose_patches_are_contrasted() -> None:
    output, prior, trusted = make_batch()
    averaged = F.avg_pool3d(prior[:, None], 8)[:, 0]
    options = {"patch_size": (2, 2, 2), "threshold": 0.01, "temperature": 0.2, "mask": trusted[:, ::8, ::8, ::8]}
    for scope in ("image", "batch"):
        fine = Objective((2, 2, 2), patch_threshold=0.01, scope=scope)(output, prior, trusted)["fine"]
        torch.testing.assert_close(fine, patch_contrastive_loss(output.embedding, averaged, scope=scope, **options))


def test_cells_that_are_neither_lesion_nor_trusted_leave_the_contrast() -> None:
    output, prior, trusted = make_batch()
    trusted[:, :, 24:] = False  # no lesion there
    trusted[:, :8, :8, :8] = False  # lesion there
    averaged = F.avg_pool3d(prior[:, None], 8)[:, 0]
    mask = torch.ones(2, 4, 4, 4, dtype=torch.bool)
    mask[:, :, 3] = False
    mask[1, 0, 0, 0] = averaged[1, 0, 0, 0] >= 0.1
    terms = Objective((1, 1, 1), patch_threshold=0.1)(output, prior, trusted)
    expected = patch_contrastive_loss(output.embedding, averaged, patch_size=1, threshold=0.1, mask=mask)
    torch.testing.assert_close(terms["fine"], expected)


def test_the_loss_is_the_weighted_sum() -> None:
    output, prior, trusted = make_batch()
    terms = Objective((2, 2, 2), weight_coarse=0.5, weight_fine=2.0)(output, prior, trusted)
    torch.testing.assert_close(terms["loss"], terms["segmentation"] + 0.5 * terms["coarse"] + 2.0 * terms["fine"])


def test_a_weight_of_zero_switches_a_path_off() -> None:
    output, prior, trusted = make_batch()
    terms = Objective((2, 2, 2), weight_coarse=0, weight_fine=0)(output, prior, trusted)
    assert not {"coarse", "fine", "positives"} & terms.keys()
    torch.testing.assert_close(terms["loss"], terms["segmentation"])


def test_activity_of_the_fine_path_is_logged_by_crop() -> None:
    output, prior, trusted = make_batch()
    terms = Objective((2, 2, 2), patch_threshold=0.1)(output, prior, trusted)
    # The first crop's lesion fills 20 of 32 voxels along each axis: all eight patches hold 1/64 of it or more, those
    # with one partial axis 16*16*4/4096 = 1/4; with two 1/16; so 1 + 3 are positive at a threshold of 0.1.
    assert terms["positives"] == (4 + 0) / 2
    assert terms["fine_share"] == 0.5


def test_mean_output_on_the_trusted_voxels_is_logged() -> None:
    output, prior, trusted = make_batch()
    constant = output._replace(lesion=torch.full((2, 1, 32, 32, 32), math.log(3.0)))
    assert abs(Objective((2, 2, 2))(constant, prior, trusted)["lesion_mean"] - 0.75) < 1e-6
