"""`AnoVaeGanPrior`: a VAE whose reconstructions are to deceive a critic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor, nn

from cgckit.options import at_least
from cgckit_reconstruction.base import Draw, ReconstructionPrior
from cgckit_reconstruction.critic import Critic, CriticTraining
from cgckit_reconstruction.networks import Vae, absolute_error


class VaeWithCritic(Vae):
    """The shared VAE and a critic of what it reconstructs."""

    def __init__(self, size: int, latent: int) -> None:
        super().__init__(size, latent)
        self.critic = Critic(size)


@dataclass
class AnoVaeGanPrior(ReconstructionPrior):
    """The residual of a VAE with a critic: Baur et al., "Deep Autoencoding Models for Unsupervised Anomaly Segmentation
    in Brain MR Images", 2018.

    `|x - d(z)| + b KL(q(z|x) | N(0, 1)) - a D(d(z))`, where the critic D learns to tell slices from reconstructions:
    they are to be as sharp as slices are. Open choice: D is a Wasserstein critic with gradient penalty, one step for
    each of the VAE.

    Attributes:
        adversarial: weight a of the critic; 0 leaves a plain VAE.
        kl_weight: weight b of the divergence.
    """

    summary: ClassVar[str] = "Residual of a VAE whose reconstructions are to deceive a critic"

    adversarial: Annotated[float, at_least(0)] = 0.1
    kl_weight: Annotated[float, at_least(0)] = 1.0

    def network(self) -> nn.Module:
        """The VAE and its critic."""
        return VaeWithCritic(self.size, self.latent)

    def train_network(self, network: nn.Module, draw: Draw) -> None:
        """The VAE, the critic a step ahead of it."""
        assert isinstance(network, VaeWithCritic)
        teacher = CriticTraining(network.critic, self.learning_rate)
        judged = nn.ModuleList([network.encoder, network.decoder])

        def loss(slices: Tensor, brain: Tensor) -> Tensor:
            if self.adversarial:
                teacher.step(slices, network(slices) * brain)
            return self.loss(network, slices, brain)

        self.minimise(judged, draw, loss, "training")

    def loss(self, network: nn.Module, slices: Tensor, brain: Tensor) -> Tensor:
        """The sum above; error and divergence in the mean over the brain's pixels."""
        assert isinstance(network, VaeWithCritic)
        code = network.encode(slices)
        expected = network.decoder(code.draw())
        error = absolute_error(expected, slices, brain) + self.kl_weight * code.divergence()
        loss = error.sum() / brain.sum()
        return loss - self.adversarial * network.critic(expected * brain).mean() if self.adversarial else loss
