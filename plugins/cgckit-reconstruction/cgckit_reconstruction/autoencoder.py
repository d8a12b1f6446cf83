"""`AutoencoderPrior`: a plain auto-encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from cgckit_reconstruction.base import ReconstructionPrior
from cgckit_reconstruction.networks import absolute_error, decoder, encoder


@dataclass
class AutoencoderPrior(ReconstructionPrior):
    """What a dense auto-encoder of the cohort's slices cannot reconstruct ("AE" of Baur et al., 2021).

    A code that is too short for what only one subject has is all that keeps lesions out.
    """

    summary: ClassVar[str] = "Residual of an auto-encoder trained on the cohort's slices"

    def network(self) -> nn.Module:
        """Encoder and decoder around a dense code."""
        return nn.Sequential(encoder(self.size, self.latent), decoder(self.size, self.latent))

    def loss(self, network: nn.Module, slices: Tensor, brain: Tensor) -> Tensor:
        """Mean absolute error in the brain."""
        return absolute_error(network(slices), slices, brain).sum() / brain.sum()
