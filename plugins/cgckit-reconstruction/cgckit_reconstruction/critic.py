"""The Wasserstein critic with gradient penalty (Gulrajani et al., 2017) that the adversarial methods share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cgckit_reconstruction.networks import encoder

_PENALTY = 10.0


class Critic(nn.Module):
    """How real slices are: the encoder, whose last layer gives one number.

    Dropout-free and with group normalisation: the penalty needs a critic that takes each slice by itself.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        layers = encoder(size, 1)
        self.body, self.head = layers[:-1], layers[-1]

    def features(self, slices: Tensor) -> Tensor:
        """What the last layer sees, [B, F]."""
        found: Tensor = self.body(slices)
        return found

    def forward(self, slices: Tensor) -> Tensor:
        """One number a slice, [B, 1]: larger is more real."""
        score: Tensor = self.head(self.features(slices))
        return score

    def loss(self, real: Tensor, made: Tensor) -> Tensor:
        """`E[D(made)] - E[D(real)] + 10 E[(|grad D(between)| - 1)^2]`."""
        share = torch.rand(len(real), 1, 1, 1)
        between = (share * real + (1 - share) * made).detach().requires_grad_()
        (slope,) = torch.autograd.grad(self(between).sum(), between, create_graph=True)
        penalty = (slope.flatten(1).norm(dim=1) - 1) ** 2
        return (self(made).mean() - self(real).mean()) + _PENALTY * penalty.mean()


class CriticTraining:
    """A critic's own optimiser, beside that of what it judges."""

    def __init__(self, critic: Critic, learning_rate: float) -> None:
        self.critic = critic
        self._optimizer = torch.optim.Adam(critic.parameters(), lr=learning_rate, betas=(0.5, 0.9))

    def step(self, real: Tensor, made: Tensor) -> None:
        """One step on real and made slices, [B, 1, S, S] each."""
        self._optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            self.critic.loss(real, made.detach()).backward()
        self._optimizer.step()
