"""The patchwise contrastive loss as a module."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cgckit.contrast.functional import patch_contrastive_loss


class PatchContrastiveLoss(nn.Module):
    """`cgckit.contrast.patch_contrastive_loss` with its options kept; see there for what they mean.

    A temperature that is an `nn.Parameter` is learned with the rest.

    Example:
        >>> import torch
        >>> loss = PatchContrastiveLoss(patch_size=(6, 6, 4), threshold=0.1)
        >>> loss(torch.randn(2, 16, 24, 24, 8), torch.rand(2, 24, 24, 8)).shape
        torch.Size([])
    """

    def __init__(
        self,
        patch_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] | None = None,
        temperature: float | Tensor = 0.2,
        threshold: float = 0.5,
        scope: str = "image",
        reduction: str = "mean",
        implementation: str = "auto",
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.stride = stride
        self.temperature = temperature
        self.threshold = threshold
        self.scope = scope
        self.reduction = reduction
        self.implementation = implementation

    def forward(self, features: Tensor, probability: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss of `features` [B, C, H, W(, L)] given `probability` and `mask` [B, H, W(, L)]."""
        return patch_contrastive_loss(
            features,
            probability,
            patch_size=self.patch_size,
            stride=self.stride,
            temperature=self.temperature,
            threshold=self.threshold,
            mask=mask,
            scope=self.scope,
            reduction=self.reduction,
            implementation=self.implementation,
        )

    def extra_repr(self) -> str:
        """Options as `print` shows them."""
        return (
            f"patch_size={self.patch_size}, stride={self.stride}, temperature={self.temperature}, "
            f"threshold={self.threshold}, scope={self.scope}, reduction={self.reduction}"
        )
