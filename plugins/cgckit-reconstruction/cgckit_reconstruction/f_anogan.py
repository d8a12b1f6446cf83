"""`FAnoGanPrior`: a generator of slices, and an encoder that inverts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from cgckit.options import at_least
from cgckit_reconstruction.base import Draw, ReconstructionPrior
from cgckit_reconstruction.critic import Critic, CriticTraining
from cgckit_reconstruction.networks import decoder, encoder


class GeneratorWithEncoder(nn.Module):
    """A generator, its critic, and the encoder that finds the code of a slice."""

    def __init__(self, size: int, latent: int) -> None:
        super().__init__()
        self.generator, self.critic = decoder(size, latent), Critic(size)
        self.encoder = nn.Sequential(encoder(size, latent), nn.Tanh())

    def forward(self, slices: Tensor) -> Tensor:
        """Reconstruct [B, 1, size, size]."""
        reconstruction: Tensor = self.generator(self.encoder(slices))
        return reconstruction


@dataclass
class FAnoGanPrior(ReconstructionPrior):
    """What a generator of slices cannot make: Schlegl et al., "f-AnoGAN", Med. Image Anal. 2019.

    First a generator G learns to make slices from uniform noise in [-1, 1], against a Wasserstein critic D with
    gradient penalty. Then, G and D fixed, an encoder E learns `mean |x - G(E(x))|^2 + k mean |f(x) - f(G(E(x)))|^2`, f
    being D's features ("izi_f"). The residual is x - G(E(x)).

    Open choices: `steps` for either stage; the code passes a hyperbolic tangent, so that E stays where G has learned.

    Attributes:
        critic_steps: of the critic for each of the generator; 0 leaves the generator without any teacher.
        feature_weight: weight k of the critic's features.
    """

    summary: ClassVar[str] = "Residual of a generative adversarial network with an encoder (f-AnoGAN)"

    critic_steps: Annotated[int, at_least(0)] = 5
    feature_weight: Annotated[float, at_least(0)] = 1.0

    def network(self) -> nn.Module:
        """Generator, critic and encoder."""
        return GeneratorWithEncoder(self.size, self.latent)

    def train_network(self, network: nn.Module, draw: Draw) -> None:
        """The generator against its critic, then the encoder."""
        assert isinstance(network, GeneratorWithEncoder)
        teacher = CriticTraining(network.critic, self.learning_rate)

        def deceive(slices: Tensor, brain: Tensor) -> Tensor:
            for _ in range(self.critic_steps):
                real, _ = draw()
                teacher.step(real, network.generator(self._noise(len(real))))
            score: Tensor = -network.critic(network.generator(self._noise(len(slices)))).mean()
            return score

        self.minimise(network.generator, draw, deceive, "generator")
        network.generator.requires_grad_(False)
        network.critic.requires_grad_(False)
        self.minimise(network.encoder, draw, lambda slices, brain: self.loss(network, slices, brain), "encoder")

    def loss(self, network: nn.Module, slices: Tensor, brain: Tensor) -> Tensor:
        """That of the encoder."""
        assert isinstance(network, GeneratorWithEncoder)
        expected = network(slices)
        features = network.critic.features(expected) - network.critic.features(slices)
        return ((expected - slices) ** 2).mean() + self.feature_weight * (features**2).mean()

    def _noise(self, count: int) -> Tensor:
        return 2 * torch.rand(count, self.latent) - 1
