"""`ContextVaePrior`: a variational auto-encoder that also fills in what was cut out of its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from cgckit.options import SHARE, at_least
from cgckit_reconstruction.base import ReconstructionPrior
from cgckit_reconstruction.networks import Vae, absolute_error


@dataclass
class ContextVaePrior(ReconstructionPrior):
    """The residual of a context-encoding VAE: Zimmerer et al., "Context-encoding Variational Autoencoder", 2018.

    `L = (1 - a) (|x - d(z)| + b KL(q(z|x) | N(0, 1))) + a |x - d(mean(x~))|`, where squares of the slice `x~` are cut
    out: to fill them in, the code must know what a brain looks like, not what this slice looks like.

    Open choices: one to three squares a slice, with edges of an eighth to a quarter of the slice, anywhere, filled with
    0, the brain's median; the map is the residual (theirs also multiplies it with the gradient of the divergence).

    Attributes:
        context: weight a of the filling in; 0 leaves a plain VAE.
        kl_weight: weight b of the divergence.
    """

    summary: ClassVar[str] = "Residual of a VAE that also fills in what was cut out"

    context: Annotated[float, SHARE] = 0.5
    kl_weight: Annotated[float, at_least(0)] = 1.0

    def network(self) -> nn.Module:
        """The shared VAE."""
        return Vae(self.size, self.latent)

    def loss(self, network: nn.Module, slices: Tensor, brain: Tensor) -> Tensor:
        """The sum above, in the mean over the brain's pixels."""
        assert isinstance(network, Vae)
        code = network.encode(slices)
        loss = absolute_error(network.decoder(code.draw()), slices, brain) + self.kl_weight * code.divergence()
        if self.context:
            filled = network.decoder(network.encode(cut_out(slices)).mean)
            loss = (1 - self.context) * loss + self.context * absolute_error(filled, slices, brain)
        return loss.sum() / brain.sum()


def cut_out(slices: Tensor) -> Tensor:
    """Slices [B, 1, S, S] with one to three squares of each set to 0."""
    cut = slices.clone()
    size = slices.shape[-1]
    for image in cut:
        for _ in range(int(torch.randint(1, 4, ()))):
            edge = int(torch.randint(size // 8, size // 4 + 1, ()))
            top, left = torch.randint(size - edge + 1, (2,)).tolist()
            image[:, top : top + edge, left : left + edge] = 0
    return cut
