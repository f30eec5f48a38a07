# SPDX-License-Identifier: Apache-2.0
"""The configuration of a network: all numbers that tell one variant of SSD from another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

Clip = Literal["none", "size", "centre_and_size", "corners"]
NMS = Literal["after_clipping", "before_clipping"]
Backbone = Literal["vgg16", "resnet50"]

INPUT_SIZE = 300  # of the configurations below; the side of the square input in pixels
VARIANCES = (0.1, 0.2)  # the paper's, of a box's centre and size
# No default box needs to grow by more than this; beyond it exp() would only overflow.
MAX_LOG_GROWTH = math.log(1000 / 16)
_MAX_INPUT_SIZE = 2048  # a file with nonsense must not make the robot run out of memory
_MAX_CHANNELS = 8192
_MAX_BOXES = 100_000  # SSD512 has 24,564
_SMALLEST, _LARGEST = 1e-6, 1e6  # beyond, float32 would soon overflow, or lose all digits


@dataclass(frozen=True)
class FeatureMap:
    """One square feature map and its default boxes.

    Attributes:
        cells: cells along one side.
        step: distance between the centres of two cells in input pixels.
        box_sizes: width and height of each default box of a cell, as fractions of the image.

    Raises:
        ValueError: a number is out of range, or there is no box.
    """

    cells: int
    step: float
    box_sizes: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if self.cells < 1:
            raise ValueError(f"cells must be at least 1, got {self.cells}")
        _check_positive("step", (self.step,))
        if not self.box_sizes or any(len(size) != 2 for size in self.box_sizes):
            raise ValueError(f"box_sizes must be pairs of width and height, got {self.box_sizes}")
        _check_positive("box_sizes", [side for size in self.box_sizes for side in size])


@dataclass(frozen=True)
class SSDConfig:
    """A network without its classes and weights.

    Attributes:
        feature_maps: finest first.
        clip: what is cut off default boxes, their numbers (centre x and y, width, height) to 0 to
            1 each: `none`; `size`, as in torchvision; `centre_and_size`, as in
            implementations that clamp the whole box (amdegroot's, lufficc's); `corners`, what
            lies outside of the image, as in ml-rover.
        mean, std: of the RGB channels on the scale 0 to 1; the input is (x - mean) / std.
        channels: output channels of the convolutions of each stage, `conv1` first; the heads
            follow from classes and boxes.
        variances: divisors of the centre's and the size's offsets.
        backbone: the architecture of the first stages.
        input_size: side of the square input in pixels.
        nms: whether non-maximum suppression compares the visible parts of boxes, as in torchvision
            and mmdetection, or whole boxes, as in amdegroot's and lufficc's implementations.

    Raises:
        ValueError: a field has the wrong length, an unknown name, or a number out of range.
    """

    feature_maps: tuple[FeatureMap, ...]
    clip: Clip
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: tuple[tuple[int, ...], ...]
    variances: tuple[float, ...] = VARIANCES
    backbone: Backbone = "vgg16"
    input_size: int = INPUT_SIZE
    nms: NMS = "after_clipping"

    def __post_init__(self) -> None:
        if self.clip not in get_args(Clip):
            raise ValueError(f"clip must be {', '.join(get_args(Clip))}, got {self.clip!r}")
        if self.nms not in get_args(NMS):
            raise ValueError(f"nms must be {', '.join(get_args(NMS))}, got {self.nms!r}")
        if self.backbone not in get_args(Backbone):
            raise ValueError(
                f"backbone must be {', '.join(get_args(Backbone))}, got {self.backbone!r}"
            )
        if not 1 <= self.input_size <= _MAX_INPUT_SIZE:
            raise ValueError(
                f"input_size must be from 1 to {_MAX_INPUT_SIZE}, got {self.input_size}"
            )
        for name, length in {"mean": 3, "std": 3, "variances": 2}.items():
            _check_length(name, getattr(self, name), length)
        if not self.feature_maps or not self.channels:
            raise ValueError("feature_maps and channels must not be empty")
        if not all(abs(value) <= _LARGEST for value in self.mean):
            raise ValueError(f"mean must be at most {_LARGEST:g} in size, got {self.mean}")
        _check_positive("std", self.std)
        _check_positive("variances", self.variances)
        if not all(
            stage and 1 <= min(stage) <= max(stage) <= _MAX_CHANNELS for stage in self.channels
        ):
            raise ValueError(f"channels must be from 1 to {_MAX_CHANNELS}, got {self.channels}")
        if self.box_count > _MAX_BOXES:
            raise ValueError(
                f"there must be at most {_MAX_BOXES} default boxes, got {self.box_count}"
            )

    @property
    def boxes_per_cell(self) -> tuple[int, ...]:
        """Default boxes in one cell of each feature map."""
        return tuple(len(feature_map.box_sizes) for feature_map in self.feature_maps)

    @property
    def box_count(self) -> int:
        """Default boxes of the network."""
        return sum(m.cells**2 * len(m.box_sizes) for m in self.feature_maps)

    @property
    def width(self) -> float | None:
        """The channel multiplier, where `scaled_channels` made the channels; else None."""
        width = max(map(max, self.channels)) / max(map(max, _CHANNELS[self.backbone]))
        fits = 0 < width <= 4 and self.channels == scaled_channels(width, self.backbone)
        return width if fits else None

    def with_width(self, width: float) -> SSDConfig:
        """This configuration with the channels of `scaled_channels(width)`."""
        return replace(self, channels=scaled_channels(width, self.backbone))


def ssd300_maps(
    scales: Sequence[float],
    aspect_ratios: Sequence[Sequence[float]] = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    steps: Sequence[float] = (8, 16, 32, 64, 100, 300),
    cells: Sequence[int] = (38, 19, 10, 5, 3, 1),
) -> tuple[FeatureMap, ...]:
    """SSD300's six feature maps with the default boxes of arXiv 1512.02325, section 2.2.

    Args:
        scales: seven sides of the square boxes as fractions of the image, one a map and one more:
            the second square of map k has side sqrt(scales[k] * scales[k + 1]).
        aspect_ratios: for each map the ratios besides 1; each makes a wide box and a tall one.
        steps: for each map the distance between its cells in input pixels.
        cells: for each map the cells along one side.

    Raises:
        ValueError: an argument has the wrong length, or a number out of range.
    """
    _check_length("scales", scales, len(cells) + 1)
    _check_length("aspect_ratios", aspect_ratios, len(cells))
    _check_length("steps", steps, len(cells))
    _check_positive("scales", scales)
    _check_positive("aspect_ratios", [ratio for ratios in aspect_ratios for ratio in ratios])
    _check_positive("steps", steps)
    maps = []
    for k, side in enumerate(scales[:-1]):
        larger = math.sqrt(side * scales[k + 1])
        sizes = [(side, side), (larger, larger)]
        for ratio in aspect_ratios[k]:
            long, short = side * math.sqrt(ratio), side / math.sqrt(ratio)
            sizes += [(long, short), (short, long)]
        maps.append(FeatureMap(cells[k], steps[k], tuple(sizes)))
    return tuple(maps)


def scaled_channels(width: float, backbone: Backbone = "vgg16") -> tuple[tuple[int, ...], ...]:
    """The channels of SSD300, times `width`, as multiples of 8 for the vector units.

    Raises:
        ValueError: the width is not above 0 and at most 4.
    """
    if not 0 < width <= 4:
        raise ValueError(f"width must be above 0 and at most 4, got {width}")
    return tuple(
        tuple(max(8, 8 * round(count * width / 8)) for count in stage)
        for stage in _CHANNELS[backbone]
    )


def _check_length(name: str, values: Sequence[object], length: int) -> None:
    if len(values) != length:
        raise ValueError(f"{name} must have {length} entries, got {values}")


def _check_positive(name: str, values: Sequence[float]) -> None:
    if not all(_SMALLEST <= value <= _LARGEST for value in values):
        raise ValueError(f"{name} must be from {_SMALLEST:g} to {_LARGEST:g}, got {values}")


_CHANNELS: dict[Backbone, tuple[tuple[int, ...], ...]] = {
    "vgg16": (
        *((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
        *((1024,), (1024,)),
        *((256, 512), (128, 256), (128, 256), (128, 256)),  # the extra layers conv8 to conv11
    ),
    "resnet50": (
        *((64,), (64, 64, 256) * 3, (128, 128, 512) * 4, (256, 256, 1024) * 6),
        (512, 512, 2048) * 3,
        *((512, 512), (256, 256), (256,)),  # the extra layers conv6 to conv8
    ),
}

# Sides of 30, 60, 111, 162, 213, 264 and 315 pixels: section 3.1 with conv4_3 at scale 0.1.
VOC_SCALES = (0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05)
# conv4_3 at 0.07 for COCO's smaller objects.
COCO_SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)

PAPER_VOC = SSDConfig(
    feature_maps=ssd300_maps(VOC_SCALES),
    clip="none",
    mean=(123 / 255, 117 / 255, 104 / 255),
    std=(1 / 255, 1 / 255, 1 / 255),
    channels=_CHANNELS["vgg16"],
)

# What torchvision.models.detection.ssd300_vgg16 is built with.
TORCHVISION = SSDConfig(
    feature_maps=ssd300_maps(COCO_SCALES),
    clip="size",
    mean=(0.48235, 0.45882, 0.40784),
    std=(1 / 255, 1 / 255, 1 / 255),
    channels=_CHANNELS["vgg16"],
)

# The paper's default boxes on the maps of ResNet-50, with the normalisation of ImageNet's weights.
RESNET50 = SSDConfig(
    feature_maps=ssd300_maps(
        VOC_SCALES, steps=(8, 16, 32, 64, 100, 150), cells=(38, 19, 10, 5, 3, 2)
    ),
    clip="none",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    channels=_CHANNELS["resnet50"],
    backbone="resnet50",
)
