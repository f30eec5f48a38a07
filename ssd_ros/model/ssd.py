# SPDX-License-Identifier: Apache-2.0
"""SSD: a backbone, the extra layers, and the two heads of each feature map."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssd_ros.model.config import PAPER_VOC, SSDConfig
from ssd_ros.model.default_boxes import default_boxes
from ssd_ros.model.layers import check_cells, heads, network
from ssd_ros.model.steps import Add, Conv, Norm, Pool, Step, walk

# Stages that start from He's distribution (arXiv 1502.01852); the others start from Xavier's.
# conv10 and conv11 are no part of VGG16, but all trained weights so far started this way.
_HE_INITIALISED = ("conv1", "conv2", "conv3", "conv4", "conv5", "conv10", "conv11")


class SSD(nn.Module):
    """The network of arXiv 1512.02325, figure 2: from images to class logits and box offsets.

    Args:
        num_classes: object classes, at least 1. The background is not one of them: the network
            adds it as class 0 of its own logits.
        width: short for `config.with_width(width)`; None for the configuration's own channels.
        config: channels, default boxes and input normalisation.

    Raises:
        ValueError: num_classes or width is out of range, or the configuration does not fit the
            backbone.
    """

    defaults: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self, num_classes: int, width: float | None = None, config: SSDConfig = PAPER_VOC
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        if width is not None:
            config = config.with_width(width)
        check_cells(config)
        self.num_classes = num_classes
        self.config = config

        self.network = network(config)
        for step in self.network.steps:
            if isinstance(step, Conv):
                _add_module(self, step.name, _conv2d(step))
            elif isinstance(step, Norm):
                _add_module(self, step.name, L2Norm(step.channels, step.scale))
        convs = heads(config, num_classes)
        self.scores = nn.ModuleList(_conv2d(c) for c in convs if c.name.startswith("scores"))
        self.offsets = nn.ModuleList(_conv2d(c) for c in convs if c.name.startswith("offsets"))

        # Derived from the configuration, so not in the state dict. Made on the CPU even where the
        # parameters are not: a network built on the meta device only lacks its weights.
        with torch.device("cpu"):
            defaults = torch.from_numpy(default_boxes(config))
            self.register_buffer("defaults", defaults, persistent=False)
            self.register_buffer("mean", torch.tensor(config.mean), persistent=False)
            self.register_buffer("std", torch.tensor(config.std), persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        """Random start: He for the backbone, Xavier for what is new in SSD (section 2.2)."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                if name.split(".")[0] in _HE_INITIALISED:
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                else:
                    nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        # Each residual block adds to the variance; without batch normalisation it would grow to
        # the power of their number.
        sums = [step for step in self.network.steps if isinstance(step, Add)]
        with torch.no_grad():
            for step in sums:
                conv = self.get_submodule(step.reads[0])
                assert isinstance(conv, nn.Conv2d)
                conv.weight /= math.sqrt(len(sums))

    def normalise(self, images: Tensor) -> Tensor:
        """The network's input for 8-bit images.

        Args:
            images: uint8 tensor (B, S, S, 3), RGB, with S = config.input_size.

        Returns:
            tensor (B, 3, S, S) of the parameters' type, channels_last in memory.
        """
        dtype = next(self.parameters()).dtype
        return ((images / 255 - self.mean) / self.std).to(dtype).permute(0, 3, 1, 2)

    def features(self, x: Tensor) -> list[Tensor]:
        """The feature maps of a normalised input (B, 3, S, S), finest first."""
        return walk(self.network, x, self.compute)

    def compute(self, step: Step, x: Tensor, *others: Tensor) -> Tensor:
        """The result of one step from the results that it reads."""
        if isinstance(step, Conv):
            x = self.get_submodule(step.name)(x)
            return F.relu(x, inplace=True) if step.relu else x
        if isinstance(step, Pool):
            return F.max_pool2d(x, step.kernel, step.stride, step.padding, ceil_mode=step.round_up)
        if isinstance(step, Add):
            return F.relu(x + others[0], inplace=True)
        return self.get_submodule(step.name)(x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and offsets for every default box.

        Args:
            x: tensor (B, 3, S, S) as `normalise` returns it.

        Returns:
            logits (B, N, 1 + num_classes) with the background first, and offsets (B, N, 4) from
            the default boxes (see `box_coding.decode`).
        """
        maps = self.features(x)
        return (
            _per_box(self.scores, maps, self.num_classes + 1),
            _per_box(self.offsets, maps, 4),
        )


class L2Norm(nn.Module):
    """See `steps.Norm`; after ParseNet, arXiv 1506.04579."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        # In float32: the sum of squares would leave the range of fp16.
        unit = F.normalize(x.float(), dim=1).to(x.dtype)
        return unit * self.scale.view(1, -1, 1, 1)


def _add_module(parent: nn.Module, path: str, module: nn.Module) -> None:
    """Adds a module by the path that its parameters have in the state dict."""
    *stages, name = path.split(".")
    for stage in stages:
        if stage not in dict(parent.named_children()):
            parent.add_module(stage, nn.ModuleDict())
        parent = parent.get_submodule(stage)
    parent.add_module(name, module)


def _conv2d(conv: Conv) -> nn.Conv2d:
    return nn.Conv2d(
        conv.inputs, conv.outputs, conv.kernel, conv.stride, conv.padding, conv.dilation
    )


def _per_box(heads: nn.ModuleList, maps: list[Tensor], values: int) -> Tensor:
    """Head outputs of all maps as (B, boxes, values); free of copies when channels_last."""
    return torch.cat(
        [
            head(x).permute(0, 2, 3, 1).reshape(len(x), -1, values)
            for head, x in zip(heads, maps, strict=True)
        ],
        dim=1,
    )
