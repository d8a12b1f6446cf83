"""`BayesianVaePrior`: a VAE with dropout, whose reconstructions are drawn many times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from cgckit import Case
from cgckit.options import Range, at_least
from cgckit_reconstruction.base import ReconstructionPrior
from cgckit_reconstruction.networks import Vae, absolute_error
from cgckit_reconstruction.residual import Residual


@dataclass
class BayesianVaePrior(ReconstructionPrior):
    """The residual of the mean of many reconstructions under dropout: the Bayesian VAE of Baur et al., 2021, after
    Pawlowski et al., "Unsupervised Lesion Detection in Brain CT using Bayesian Convolutional Autoencoders", 2018.

    `uncertainty` is their standard deviation. Open choices: dropout at both sides of the code alone; the code is its
    mean, so that what varies is the network.

    Attributes:
        dropout: share of the features beside the code that are left out; 0 leaves a plain VAE.
        samples: reconstructions a slice.
        kl_weight: weight of the divergence.
    """

    summary: ClassVar[str] = "Residual of the mean reconstruction of a VAE under dropout"

    dropout: Annotated[float, Range(0, 0.95)] = 0.2
    samples: Annotated[int, at_least(1)] = 16
    kl_weight: Annotated[float, at_least(0)] = 1.0

    def network(self) -> nn.Module:
        """The shared VAE, with dropout."""
        return Vae(self.size, self.latent, self.dropout)

    def loss(self, network: nn.Module, slices: Tensor, brain: Tensor) -> Tensor:
        """The negative evidence lower bound, in the mean over the brain's pixels."""
        assert isinstance(network, Vae)
        code = network.encode(slices)
        loss = absolute_error(network.decoder(code.draw()), slices, brain) + self.kl_weight * code.divergence()
        return loss.sum() / brain.sum()

    def anomaly(self, network: nn.Module, slices: Tensor, brain: Tensor) -> Tensor:
        """The residual of the mean reconstruction."""
        return (slices - self._reconstructions(network, slices).mean(dim=0)) * brain

    def uncertainty(self, case: Case) -> Residual:
        """Standard deviation of the reconstructions of a case, [H, W, L] in z-scores, 0 outside the brain."""
        return self._volume(
            case,
            lambda network, slices, brain: self._reconstructions(network, slices).std(dim=0, correction=0) * brain,
        )

    @torch.no_grad()
    def _reconstructions(self, network: nn.Module, slices: Tensor) -> Tensor:
        assert isinstance(network, Vae)
        network.train()
        try:
            return torch.stack([network.decoder(network.encode(slices).mean) for _ in range(self.samples)])
        finally:
            network.eval()
