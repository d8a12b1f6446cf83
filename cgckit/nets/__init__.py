"""Network blocks and the training loop that trained priors and the CGC network share."""

from cgckit.nets.blocks import residual_block, up_block
from cgckit.nets.loop import Checkpoint, train

__all__ = ["Checkpoint", "residual_block", "train", "up_block"]
