"""`GmvaePrior`: a VAE whose prior is a mixture of Gaussians, and slices restored under it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from cgckit.options import POSITIVE, at_least
from cgckit_reconstruction.base import ReconstructionPrior
from cgckit_reconstruction.networks import Gaussian, Vae, absolute_error

_HIDDEN = 64


class MixtureVae(Vae):
    """q(z|x) and q(w|x) from one encoder; p(z|w, c) is a Gaussian for each component c, given by w."""

    def __init__(self, size: int, latent: int, components: int, style: int) -> None:
        super().__init__(size, latent + style)
        self.components, self.latent, self.style = components, latent, style
        self.decoder = Vae(size, latent).decoder
        self.mixture = nn.Sequential(nn.Linear(style, _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, components * 2 * latent))

    def codes(self, slices: Tensor) -> tuple[Gaussian, Gaussian]:
        """q(z|x) and q(w|x)."""
        both = self.encode(slices)
        parts = [both.mean.split([self.latent, self.style], 1), both.log_variance.split([self.latent, self.style], 1)]
        return Gaussian(parts[0][0], parts[1][0]), Gaussian(parts[0][1], parts[1][1])

    def prior(self, style: Tensor) -> Gaussian:
        """p(z|w, c) for all c, [B, components, latent]."""
        mean, log_variance = self.mixture(style).unflatten(1, (self.components, -1)).chunk(2, dim=2)
        return Gaussian(mean, log_variance.clamp(-10, 10))

    def responsibilities(self, code: Tensor, prior: Gaussian) -> Tensor:
        """p(c|z, w), [B, components], with p(c) uniform."""
        distance = (code[:, None] - prior.mean) ** 2 / prior.log_variance.exp()
        return (-0.5 * (distance + prior.log_variance).sum(dim=2)).softmax(dim=1)

    def code_cost(self, code: Gaussian, drawn: Tensor, prior: Gaussian) -> Tensor:
        """The bound's terms of z and c, [B]: E[KL(q(z|x) | p(z|w, c))] + KL(p(c|z, w) | 1 / K)."""
        share = self.responsibilities(drawn, prior)
        each = Gaussian(code.mean[:, None], code.log_variance[:, None]).divergence(prior)
        component = share * (share.clamp_min(1e-8).log() + math.log(self.components))
        return (share * each + component).sum(dim=1)

    def forward(self, slices: Tensor) -> Tensor:
        """Reconstruct from q(z|x)."""
        code, _ = self.codes(slices)
        reconstruction: Tensor = self.decoder(code.draw() if self.training else code.mean)
        return reconstruction


@dataclass
class GmvaePrior(ReconstructionPrior):
    """How far a slice is from its restoration under a mixture prior: You et al., "Unsupervised Lesion Detection via
    Image Restoration with a Normative Prior", 2019.

    The evidence lower bound of the mixture VAE is `-|x - d(z)| - E[KL(q(z|x) | p(z|w, c))] - KL(q(w|x) | N(0, 1)) -
    KL(p(c|z, w) | 1 / K)`. A slice y is restored by descending, from x = y, `-ELBO(x) + tv TV(x - y)`: x is to be
    likely, and to differ from y in few, compact places. The residual is y - x.

    Open choices: w has two numbers; in the restoration the codes are the means; its rate and number of steps, which
    allow a change of 6 z-scores; all terms have weight 1.

    Attributes:
        components: of the mixture.
        restorations: steps of the restoration; 0 takes the plain residual.
        rate: of the restoration's first step, in z-scores; it falls to 0.
        tv: weight of the total variation of what is changed.
    """

    summary: ClassVar[str] = "Slices restored under a Gaussian-mixture prior of the cohort"

    components: Annotated[int, at_least(1)] = 9
    restorations: Annotated[int, at_least(0)] = 60
    rate: Annotated[float, POSITIVE] = 0.2
    tv: Annotated[float, at_least(0)] = 0.3

    def network(self) -> nn.Module:
        """The mixture VAE."""
        return MixtureVae(self.size, self.latent, self.components, style=2)

    def loss(self, network: nn.Module, slices: Tensor, brain: Tensor) -> Tensor:
        """The negative bound, in the mean over the brain's pixels."""
        assert isinstance(network, MixtureVae)
        return self._bound(network, slices, brain, draw=True).sum() / brain.sum()

    def anomaly(self, network: nn.Module, slices: Tensor, brain: Tensor) -> Tensor:
        """What the restoration takes away."""
        assert isinstance(network, MixtureVae)
        if not self.restorations:
            return super().anomaly(network, slices, brain)
        restored = slices.clone()
        for index in range(self.restorations):
            restored.requires_grad_()
            change = (restored - slices) * brain
            cost = self._bound(network, restored, brain, draw=False).sum() + self.tv * total_variation(change)
            (slope,) = torch.autograd.grad(cost, restored)
            # A rate that falls to 0: slopes of absolute values have no size that would end the search.
            rate = self.rate * (1 - index / self.restorations)
            restored = (restored - rate * slope.clamp(-1, 1) * brain).detach()
        return (slices - restored) * brain

    @staticmethod
    def _bound(network: MixtureVae, slices: Tensor, brain: Tensor, *, draw: bool) -> Tensor:
        """The negative evidence lower bound of each slice, [B]."""
        code, style = network.codes(slices)
        z, w = (code.draw(), style.draw()) if draw else (code.mean, style.mean)
        prior = network.prior(w)
        error = absolute_error(network.decoder(z), slices, brain)
        return error + network.code_cost(code, z, prior) + style.divergence()


def total_variation(change: Tensor) -> Tensor:
    """Isotropic total variation of [B, 1, S, S], summed; rounded at 0 so that it has a slope there."""
    down = change[..., 1:, :-1] - change[..., :-1, :-1]
    right = change[..., :-1, 1:] - change[..., :-1, :-1]
    return (down**2 + right**2 + 1e-4).sqrt().sum()
