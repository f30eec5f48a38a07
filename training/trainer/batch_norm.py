# SPDX-License-Identifier: Apache-2.0
"""Batch normalisation for training from scratch, folded away when weights are written.

VGG16 has none: the paper starts from pretrained weights. A network trained from scratch learns
many times faster with it. On the robot it would cost time and need another network. In evaluation
it is only a scale and a shift of each channel, and both fit into the convolution before it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ssd_ros.model.layers import convolutions
from ssd_ros.model.ssd import SSD


class NormalisedConv(nn.Conv2d):
    """A convolution and the batch normalisation of its output; the convolution's keys stay."""

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


def add(model: SSD, stages: Collection[str] | None = None) -> None:
    """Adds batch normalisation after each convolution except those of the heads.

    Args:
        model: without batch normalisation.
        stages: names of the layers to which it is added; None for all.
    """
    for conv in convolutions(model.config):
        stage, *path = conv.name.split(".")
        if stages is None or stage in stages:
            parent = model.get_submodule(".".join((stage, *path[:-1])))
            layer = parent.get_submodule(path[-1])
            assert isinstance(layer, nn.Conv2d)
            setattr(parent, path[-1], NormalisedConv.around(layer))


def layers(tensors: Iterable[str]) -> set[str]:
    """Names of the layers that have batch normalisation, by the names of their tensors."""
    return {key.split(".")[0] for key in tensors if ".norm." in key}


def fold(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """SSD's own state dict from one with batch normalisation; any other one unchanged.

    In double precision, as it happens once.
    """
    folded = {key: tensor for key, tensor in tensors.items() if ".norm." not in key}
    for key in tensors:
        if not key.endswith(".norm.running_mean"):
            continue
        layer = key.removesuffix(".norm.running_mean")
        mean, variance, scale, shift = (
            tensors[f"{layer}.norm.{part}"].double()
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        kernel, bias = folded[f"{layer}.weight"], folded[f"{layer}.bias"]
        fused = fuse_conv_bn_weights(
            kernel.double(), bias.double(), mean, variance, _EPS, scale, shift
        )
        folded[f"{layer}.weight"] = fused[0].detach().to(kernel.dtype)
        folded[f"{layer}.bias"] = fused[1].detach().to(bias.dtype)
    return folded


_EPS = nn.BatchNorm2d(1).eps
