"""From a trained network to a probability map on the case's own grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.inferers.utils import sliding_window_inference
from torch import Tensor

from cgckit.cgc.network import CGCNet
from cgckit.cgc.presets import Settings


@torch.inference_mode()
def infer(model: CGCNet, image: Tensor, settings: Settings) -> Tensor:
    """Segment one image on the network's working grid by sliding windows.

    Args:
        model: in evaluation mode.
        image: [C, H, W, L], normalised like the training images.
        settings: `crop`, `overlap` and `mirror` are used.

    Returns:
        The log-odds of lesion, [H, W, L] float32 on the CPU. With `mirror`, the mean of the image's and its mirror image's.
    """
    device = next(model.parameters()).device
    batch = image[None].to(device)
    logits = _windows(model, batch, settings)
    if settings.mirror:
        logits = (logits + _windows(model, batch.flip(2), settings).flip(2)) / 2
    return logits[0, 0].float().cpu()


def _windows(model: CGCNet, batch: Tensor, settings: Settings) -> Tensor:
    logits: Tensor = sliding_window_inference(
        batch,
        roi_size=settings.crop,
        sw_batch_size=settings.batch,
        predictor=model.segment,
        overlap=settings.overlap,
        mode="gaussian",
    )
    return logits


def guided_upsample(coarse: Tensor, guide: Tensor, factor_guide: Tensor, *, radius: int = 2, epsilon: float = 0.05) -> Tensor:
    """Bring `coarse` to the grid of `guide` along the guide's edges.

    The guided filter of He, Sun and Tang with several guide channels: in each window of the coarse grid, `coarse` is fitted as
    a linear function of the guide, and the coefficients, not the values, are interpolated to the fine grid. Edges
    of the result are then those of the full-resolution image.

    Args:
        coarse: [h, w, l], a map on the coarse grid.
        guide: [C, H, W, L], the image on the fine grid.
        factor_guide: [C, h, w, l], the same image on the coarse grid.
        radius: of the window [coarse voxels].
        epsilon: ridge on the coefficients, relative to unit variance of the guide.

    Returns:
        [H, W, L].
    """
    channels = guide.shape[0]

    def mean(x: Tensor) -> Tensor:
        window = 2 * radius + 1
        return F.avg_pool3d(x[None], window, stride=1, padding=radius, count_include_pad=False)[0]

    mu_g, mu_p = mean(factor_guide), mean(coarse[None])
    rows, columns = torch.triu_indices(channels, channels)
    second = mean(factor_guide[rows] * factor_guide[columns]) - mu_g[rows] * mu_g[columns]
    covariance = second.new_zeros(channels, channels, *coarse.shape)
    covariance[rows, columns] = second
    covariance[columns, rows] = second
    cross = mean(factor_guide * coarse[None]) - mu_g * mu_p
    matrix = covariance.movedim((0, 1), (-2, -1)) + epsilon * torch.eye(channels)
    slope = torch.linalg.solve(matrix, cross.movedim(0, -1))
    slope = slope.movedim(-1, 0)
    offset = mu_p - (slope * mu_g).sum(0, keepdim=True)
    coefficients = mean(torch.cat([slope, offset]))
    fine = F.interpolate(coefficients[None], size=guide.shape[1:], mode="trilinear", align_corners=False)[0]
    return (fine[:-1] * guide).sum(0) + fine[-1]
