# SPDX-License-Identifier: Apache-2.0
"""SSD: a backbone, the extra layers, and the two heads of each feature map."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import groupby

import torch
from torch import Tensor, nn

from ssd_ros.model import vgg16
from ssd_ros.model.config import PAPER_VOC, SSDConfig
from ssd_ros.model.default_boxes import default_boxes
from ssd_ros.model.layers import Conv, check_cells, convolutions, map_channels


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

        stages = groupby(convolutions(config), key=lambda conv: conv.stage)
        for name, convs in stages:
            self.add_module(name, _stage(convs))
            if name == "conv4":
                vgg16.add_norm(self, config.channels[3][-1])
        # Stages after the backbone's: their names are their places in `channels`.
        self._extras = [f"conv{number}" for number in range(8, len(config.channels) + 1)]
        self.scores = _heads(config, num_classes + 1)
        self.offsets = _heads(config, 4)

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
                if name.split(".")[0] in vgg16.HE_INITIALISED:
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                else:
                    nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

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
        maps = vgg16.feature_maps(self, x)
        for name in self._extras:
            maps.append(self.get_submodule(name)(maps[-1]))
        return maps

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


def _stage(convs: Iterable[Conv]) -> nn.Sequential:
    """Convolutions with ReLU; only the convolutions count in the state dict's names."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for conv in convs:
        index = conv.name.split(".")[1]
        layers[index] = nn.Conv2d(
            conv.inputs, conv.outputs, conv.kernel, conv.stride, conv.padding, conv.dilation
        )
        layers[f"relu{index}"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)


def _heads(config: SSDConfig, values: int) -> nn.ModuleList:
    """For each feature map the convolution that makes so many values a default box."""
    return nn.ModuleList(
        nn.Conv2d(channels, boxes * values, kernel_size=3, padding=1)
        for channels, boxes in zip(map_channels(config), config.boxes_per_cell, strict=True)
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
