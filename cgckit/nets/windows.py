"""Applying a network to a whole image, window after window."""

from __future__ import annotations

import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor

from cgckit.arrays import Shape
from cgckit.nets.cgc_net import CGCNet


def infer(
    network: CGCNet, image: Tensor, *, window: Shape, batch: int = 2, overlap: float = 0.25, mirror: bool = False
) -> Tensor:
    """Log-odds of lesion by sliding windows, [H, W, L] float32 on the CPU, of an image [C, H, W, L].

    Args:
        network: on any device.
        image: what it takes.
        window: size of the windows [voxels].
        batch: windows at a time.
        overlap: share of a window that its neighbour overlaps; there they fade into one another.
        mirror: give the mean over the image and its left-right mirror image.
    """
    device = next(network.parameters()).device

    def segment(windows: Tensor) -> Tensor:
        # For a batch of one PyTorch leaves oneDNN's convolutions on the CPU for slower ones of its own.
        alone = len(windows) == 1 and device.type == "cpu"
        return network.segment(windows.expand(2, *windows.shape[1:]))[:1] if alone else network.segment(windows)

    @torch.inference_mode()
    def direct(image: Tensor) -> Tensor:
        logits = sliding_window_inference(
            image[None].to(device),
            roi_size=window,
            sw_batch_size=batch,
            predictor=segment,
            overlap=overlap,
            mode="gaussian",
        )
        return torch.as_tensor(logits)[0, 0].float().cpu()

    return (direct(image) + direct(image.flip(1)).flip(0)) / 2 if mirror else direct(image)
