# SPDX-License-Identifier: Apache-2.0
"""SSD300: VGG16, the extra layers, the L2 normalisation and the two heads of each feature map."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssd_ros.model.config import PAPER_VOC, SSDConfig
from ssd_ros.model.default_boxes import default_boxes

CONV4_3_SCALE = 20.0


class SSD300(nn.Module):
    """The network of arXiv 1512.02325, figure 2: from images to class scores and box offsets.

    Args:
        num_classes: object classes, at least 1. The background is not one of them: the network
            adds it as class 0 of its own scores.
        width: channel multiplier of all layers but input and outputs; 1.0 is VGG16.
        config: default boxes and input normalisation.

    Raises:
        ValueError: num_classes or width is out of range.
    """

    defaults: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, num_classes: int, width: float = 1.0, config: SSDConfig = PAPER_VOC) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        if not 0 < width <= 4:
            raise ValueError(f"width must be above 0 and at most 4, got {width}")
        self.num_classes = num_classes
        self.width = width
        self.config = config

        def ch(vgg_channels: int) -> int:  # multiples of 8 suit the vector units
            return max(8, 8 * round(vgg_channels * width / 8))

        self.conv1 = _convs(3, ch(64), ch(64))
        self.conv2 = _convs(ch(64), ch(128), ch(128))
        self.conv3 = _convs(ch(128), ch(256), ch(256), ch(256))
        self.conv4 = _convs(ch(256), ch(512), ch(512), ch(512))
        self.norm4 = L2Norm(ch(512), CONV4_3_SCALE)
        self.conv5 = _convs(ch(512), ch(512), ch(512), ch(512))
        self.conv6 = _conv(ch(512), ch(1024), kernel_size=3, padding=6, dilation=6)
        self.conv7 = _conv(ch(1024), ch(1024), kernel_size=1)
        self.conv8 = _extra(ch(1024), ch(256), ch(512), stride=2, padding=1)
        self.conv9 = _extra(ch(512), ch(128), ch(256), stride=2, padding=1)
        self.conv10 = _extra(ch(256), ch(128), ch(256))
        self.conv11 = _extra(ch(256), ch(128), ch(256))

        sources = (ch(512), ch(1024), ch(512), ch(256), ch(256), ch(256))
        self.scores = nn.ModuleList(
            nn.Conv2d(channels, boxes * (num_classes + 1), kernel_size=3, padding=1)
            for channels, boxes in zip(sources, config.boxes_per_cell, strict=True)
        )
        self.offsets = nn.ModuleList(
            nn.Conv2d(channels, boxes * 4, kernel_size=3, padding=1)
            for channels, boxes in zip(sources, config.boxes_per_cell, strict=True)
        )

        # Derived from the configuration, so not in the state dict. Made on the CPU even where the
        # parameters are not: a network built on the meta device only lacks its weights.
        with torch.device("cpu"):
            self.register_buffer("defaults", default_boxes(config), persistent=False)
            self.register_buffer("mean", torch.tensor(config.mean), persistent=False)
            self.register_buffer("std", torch.tensor(config.std), persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        """Random start: He for VGG16, Xavier for the layers that are new in SSD (section 2.2)."""
        base = ("conv1", "conv2", "conv3", "conv4", "conv5")
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                if name.startswith(base):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                else:
                    nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def normalise(self, images: Tensor) -> Tensor:
        """The network's input for 8-bit images.

        Args:
            images: uint8 tensor (B, 300, 300, 3), RGB.

        Returns:
            tensor (B, 3, 300, 300) of the parameters' type, channels_last in memory.
        """
        return ((images / 255 - self.mean) / self.std).to(self._dtype).permute(0, 3, 1, 2)

    @property
    def _dtype(self) -> torch.dtype:
        return self.norm4.scale.dtype

    def features(self, x: Tensor) -> list[Tensor]:
        """The six feature maps of a normalised input (B, 3, 300, 300), finest first."""
        x = F.max_pool2d(self.conv1(x), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        x = F.max_pool2d(self.conv3(x), 2, ceil_mode=True)  # 75 -> 38
        conv4_3 = self.conv4(x)
        x = self.conv5(F.max_pool2d(conv4_3, 2))
        conv7 = self.conv7(self.conv6(F.max_pool2d(x, 3, stride=1, padding=1)))
        maps = [self.norm4(conv4_3), conv7]
        for layer in (self.conv8, self.conv9, self.conv10, self.conv11):
            maps.append(layer(maps[-1]))
        return maps

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and offsets for every default box.

        Args:
            x: tensor (B, 3, 300, 300) as `normalise` returns it.

        Returns:
            class scores (B, 8732, 1 + num_classes) before the softmax, background first, and
            offsets (B, 8732, 4) from the default boxes (see `default_boxes.decode`).
        """
        maps = self.features(x)
        return (
            _per_box(self.scores, maps, self.num_classes + 1),
            _per_box(self.offsets, maps, 4),
        )


class L2Norm(nn.Module):
    """Scales each position's channels to length 1, then by a learned factor a channel.

    conv4_3 needs it: its activations are larger than the deeper maps' (section 3.1, after
    ParseNet, arXiv 1506.04579).
    """

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        # In float32: the sum of squares would leave the range of fp16.
        unit = F.normalize(x.float(), dim=1).to(x.dtype)
        return unit * self.scale.view(1, -1, 1, 1)


def _conv(before: int, after: int, **options: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, **options), nn.ReLU(inplace=True))  # type: ignore[arg-type]


def _convs(*channels: int) -> nn.Sequential:
    """A VGG16 stage of 3×3 convolutions; the state dict counts them from 1 as VGG does."""
    stage: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (before, after) in enumerate(pairwise(channels), start=1):
        stage[str(i)] = nn.Conv2d(before, after, kernel_size=3, padding=1)
        stage[f"relu{i}"] = nn.ReLU(inplace=True)
    return nn.Sequential(stage)


def _extra(before: int, squeezed: int, after: int, **options: int) -> nn.Sequential:
    """An extra layer: 1×1 to fewer channels, then 3×3 to a smaller map."""
    return nn.Sequential(
        OrderedDict(
            [
                ("1", nn.Conv2d(before, squeezed, kernel_size=1)),
                ("relu1", nn.ReLU(inplace=True)),
                ("2", nn.Conv2d(squeezed, after, kernel_size=3, **options)),  # type: ignore[arg-type]
                ("relu2", nn.ReLU(inplace=True)),
            ]
        )
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
