# SPDX-License-Identifier: Apache-2.0
"""Batch normalisation for training from scratch, folded away when weights are written.

SSD300 has none: the paper starts from a trained VGG16. A network that starts from nothing learns
many times faster with it. On the robot it would cost time and another network, and in evaluation it
is but a scale and a shift of each channel: both go into the convolution before it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ssd_ros.model.ssd import SSD300

_HEADS = ("scores", "offsets")


class NormalisedConv(nn.Conv2d):
    """A convolution and the batch normalisation of its output; its own keys stay what they were."""

    norm: nn.BatchNorm2d

    @classmethod
    def around(cls, conv: nn.Conv2d) -> NormalisedConv:
        """Takes over the parameters of a convolution."""
        new = cls.__new__(cls)
        nn.Module.__init__(new)
        new.__dict__.update(
            {k: v for k, v in conv.__dict__.items() if not k.startswith("_modules")}
        )
        new._modules = {"norm": nn.BatchNorm2d(conv.out_channels)}
        return new

    def forward(self, input: Tensor) -> Tensor:
        return self.norm(super().forward(input))


def add(model: SSD300) -> None:
    """Puts a batch normalisation after each convolution but those of the heads."""
    for stage_name, stage in model.named_children():
        if stage_name in _HEADS:
            continue
        for name, layer in stage.named_children():
            if type(layer) is nn.Conv2d:
                setattr(stage, name, NormalisedConv.around(layer))


def fold(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """SSD300's own state dict from one with batch normalisation; any other one as it is.

    Equation: with scale s = weight / sqrt(running_var + eps), conv weight W and bias b become W s
    and (b - running_mean) s + norm bias. In double precision, as it happens once.
    """
    folded = {key: tensor for key, tensor in tensors.items() if ".norm." not in key}
    for key in tensors:
        if not key.endswith(".norm.running_mean"):
            continue
        layer = key.removesuffix(".norm.running_mean")
        weight, bias, mean, variance = (
            tensors[f"{layer}.norm.{part}"].double()
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight * torch.rsqrt(variance + _EPS)
        kernel, shift = folded[f"{layer}.weight"], folded[f"{layer}.bias"]
        folded[f"{layer}.weight"] = (kernel.double() * scale.view(-1, 1, 1, 1)).to(kernel.dtype)
        folded[f"{layer}.bias"] = ((shift.double() - mean) * scale + bias).to(shift.dtype)
    return folded


_EPS = nn.BatchNorm2d(1).eps
