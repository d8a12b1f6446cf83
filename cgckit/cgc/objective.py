"""The objective of the CGC network (Eq. 8 of Yu, Zhao et al.)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cgckit.arrays import Shape
from cgckit.contrast import count_positives, patch_contrastive_loss
from cgckit.nets.cgc_net import DOWN_SAMPLING, CGCOutput
from cgckit.nets.loop import ALONE
from cgckit.nets.team import Team


@dataclass(frozen=True)
class Objective:
    """`L = L_bce + weight_coarse * L_bce^cg + weight_fine * L_cl^fg`.

    `L_bce` compares the segmentation with the prior `P` on the trusted voxels (`cgckit.cgc.margin`); `L_bce^cg` the
    coarse head with `P` averaged over the trusted voxels of each cell of the encoder's grid; `L_cl^fg` is the patchwise
    supervised contrast of the projected content. The patches' classes come from the averaged `P`, not from the coarse
    head, which is only supervised; cells that are neither lesion nor mostly trusted leave the contrast.
    In a `team` of processes the mean of their values is that of all their images together.
    Eq. 8 writes the third term `L_bce^fg`; Eq. 6, which defines it, is the contrastive loss.
    """

    patch_size: Shape
    patch_threshold: float = 0.1
    temperature: float = 0.2
    weight_coarse: float = 1.0
    weight_fine: float = 1.0
    scope: str = "image"
    implementation: str = "auto"
    team: Team = ALONE

    def __call__(self, output: CGCOutput, prior: Tensor, trusted: Tensor) -> dict[str, Tensor]:
        """Compare the network's `output` with `prior` [B, H, W, L] on the `trusted` voxels [B, H, W, L].

        Returns:
            The total "loss" and each term, weighted terms unweighted; "lesion_mean", the mean output on the
            trusted voxels; "positives", the mean number of positive patches n a crop; "fine_share", the share of
            crops with n >= 2, where the fine-grained path is at work. Switched-off paths give no entry.
        """
        weight = trusted.to(prior.dtype)
        volume = self.team.count(weight.sum())
        logits = output.lesion.squeeze(1)
        voxelwise = F.binary_cross_entropy_with_logits(logits, prior, reduction="none")
        terms = {"segmentation": (voxelwise * weight).sum() / volume}
        total = terms["segmentation"]
        share = F.avg_pool3d(weight, DOWN_SAMPLING)  # [B, H/8, W/8, L/8], trusted part of each cell
        if self.weight_coarse > 0:
            mean = F.avg_pool3d(prior * weight, DOWN_SAMPLING) / share.clamp(min=1 / DOWN_SAMPLING**3)
            cellwise = F.binary_cross_entropy_with_logits(output.coarse.squeeze(1), mean, reduction="none")
            terms["coarse"] = (cellwise * share).sum() * DOWN_SAMPLING**3 / volume
            total = total + self.weight_coarse * terms["coarse"]
        if self.weight_fine > 0:
            labels = F.avg_pool3d(prior, DOWN_SAMPLING)
            patches: dict[str, Any] = {
                "patch_size": self.patch_size,
                "threshold": self.patch_threshold,
                "mask": (share >= 0.5) | (labels >= self.patch_threshold),
            }
            terms["fine"] = patch_contrastive_loss(
                output.embedding,
                labels,
                temperature=self.temperature,
                scope=self.scope,
                implementation=self.implementation,
                reduction="mean" if self.team.size == 1 else "sum",
                **patches,
            )
            positives = count_positives(labels, **patches)
            if self.team.size > 1:
                terms["fine"] = terms["fine"] / self.team.count((positives >= 2).sum())
            total = total + self.weight_fine * terms["fine"]
            terms["positives"] = positives.float().mean()
            terms["fine_share"] = (positives >= 2).float().mean()
        with torch.no_grad():
            terms["lesion_mean"] = (logits.sigmoid() * weight).sum() / volume
        return {"loss": total, **terms}
