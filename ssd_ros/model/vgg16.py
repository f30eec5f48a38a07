# SPDX-License-Identifier: Apache-2.0
"""VGG16 as SSD's backbone: conv1 to conv7 and the L2 normalisation of conv4_3."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONV4_3_SCALE = 20.0
# Stages that start from He's distribution (arXiv 1502.01852); the others start from Xavier's.
# conv10 and conv11 are no part of VGG16, but all trained weights so far started this way.
HE_INITIALISED = ("conv1", "conv2", "conv3", "conv4", "conv5", "conv10", "conv11")


def add_norm(model: nn.Module, channels: int) -> None:
    """Adds `norm4`; a direct child of the model, as its key in weights files has no prefix."""
    model.add_module("norm4", L2Norm(channels, CONV4_3_SCALE))


def feature_maps(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The feature maps of conv4_3, normalised, and of conv7.

    Args:
        model: has the stages `conv1` to `conv7` and `norm4`.
        x: (B, 3, S, S); S = 300 makes maps of 38 and 19 cells.
    """
    stage = model.get_submodule
    x = F.max_pool2d(stage("conv1")(x), 2)
    x = F.max_pool2d(stage("conv2")(x), 2)
    x = F.max_pool2d(stage("conv3")(x), 2, ceil_mode=True)  # 75 -> 38
    conv4_3 = stage("conv4")(x)
    x = stage("conv5")(F.max_pool2d(conv4_3, 2))
    conv7 = stage("conv7")(stage("conv6")(F.max_pool2d(x, 3, stride=1, padding=1)))
    return [stage("norm4")(conv4_3), conv7]


class L2Norm(nn.Module):
    """Scales each position's channels to length 1, then by a learned factor a channel.

    conv4_3 needs it: its activations are larger than the deeper maps' (arXiv 1512.02325, section
    3.1, after ParseNet, arXiv 1506.04579).
    """

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        # In float32: the sum of squares would leave the range of fp16.
        unit = F.normalize(x.float(), dim=1).to(x.dtype)
        return unit * self.scale.view(1, -1, 1, 1)
