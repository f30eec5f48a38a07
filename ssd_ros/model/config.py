# SPDX-License-Identifier: Apache-2.0
"""The numbers that tell one variant of SSD300 from another."""

from __future__ import annotations

import math
from dataclasses import dataclass

INPUT_SIZE = 300
FEATURE_MAPS = (38, 19, 10, 5, 3, 1)  # cells along one side, finest map first


@dataclass(frozen=True)
class SSDConfig:
    """Default boxes and input normalisation of one SSD300 variant.

    Attributes:
        scales: seven sides of the square default boxes as fractions of the image's side, one a
            feature map and one more: the second square of map k has side
            sqrt(scales[k] * scales[k + 1]) (arXiv 1512.02325, section 2.2).
        aspect_ratios: for each of the six maps the ratios besides 1; each stands for itself and
            its inverse, so that a cell has 2 + 2 * len(ratios) boxes.
        steps: for each map the distance between its cells in input pixels.
        clip: cut the sides of default boxes that are longer than the image to its length.
        mean, std: of the RGB channels on the scale 0 to 1; the input is (x - mean) / std.

    Raises:
        ValueError: a field has the wrong length, or a number that is not finite and positive.
    """

    scales: tuple[float, ...]
    aspect_ratios: tuple[tuple[float, ...], ...]
    steps: tuple[float, ...]
    clip: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        maps = len(FEATURE_MAPS)
        lengths = {"scales": maps + 1, "aspect_ratios": maps, "steps": maps, "mean": 3, "std": 3}
        for name, length in lengths.items():
            if len(getattr(self, name)) != length:
                raise ValueError(f"{name} must have {length} entries, got {getattr(self, name)}")
        ratios = tuple(ratio for ratios in self.aspect_ratios for ratio in ratios)
        for name, numbers in {
            "scales": self.scales,
            "aspect_ratios": ratios,
            "steps": self.steps,
            "std": self.std,
        }.items():
            if not all(math.isfinite(number) and number > 0 for number in numbers):
                raise ValueError(f"{name} must be finite and positive, got {numbers}")
        if not all(map(math.isfinite, self.mean)):
            raise ValueError(f"mean must be finite, got {self.mean}")

    @property
    def boxes_per_cell(self) -> tuple[int, ...]:
        """Default boxes in one cell of each feature map."""
        return tuple(2 + 2 * len(ratios) for ratios in self.aspect_ratios)


_RATIOS = ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,))
_STEPS = (8.0, 16.0, 32.0, 64.0, 100.0, 300.0)

PAPER_VOC = SSDConfig(
    # Sides of 30, 60, 111, 162, 213, 264 and 315 pixels: section 3.1 with conv4_3 at scale 0.1.
    scales=(0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05),
    aspect_ratios=_RATIOS,
    steps=_STEPS,
    clip=False,
    mean=(123 / 255, 117 / 255, 104 / 255),
    std=(1 / 255, 1 / 255, 1 / 255),
)

TORCHVISION = SSDConfig(
    # What torchvision.models.detection.ssd300_vgg16 is built with: the paper's COCO scales.
    scales=(0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
    aspect_ratios=_RATIOS,
    steps=_STEPS,
    clip=True,
    mean=(0.48235, 0.45882, 0.40784),
    std=(1 / 255, 1 / 255, 1 / 255),
)
