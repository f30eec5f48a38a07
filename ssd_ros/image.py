# SPDX-License-Identifier: Apache-2.0
"""An image as it lies in memory; apart from the detector, so that a camera needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

ChannelOrder = Literal["rgb", "bgr", "rgba", "bgra", "mono"]
_CHANNELS = {"rgb": 3, "bgr": 3, "rgba": 4, "bgra": 4, "mono": 1}


@dataclass(frozen=True)
class Image:
    """One image as it lies in memory.

    Attributes:
        pixels: uint8 (H, W, C), or (H, W) where `order` is mono; rows may be padded.
        order: what the channels are.
        size: width and height of the image that detections refer to, where `pixels` are a
            reduced copy of it; None where they are the image itself.

    Raises:
        ValueError: the pixels are not 8-bit, empty, or have another number of channels.
    """

    pixels: np.ndarray
    order: ChannelOrder = "bgr"
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        shape, channels = self.pixels.shape, _CHANNELS[self.order]
        fits = shape[2:] == (channels,) or (len(shape) == 2 and channels == 1)
        if self.pixels.dtype != np.uint8 or not fits or 0 in shape:
            raise ValueError(
                f"a {self.order} image must be uint8 of shape (H, W, {channels}), "
                f"got {self.pixels.dtype} of shape {shape}"
            )

    @property
    def width(self) -> int:
        return self.size[0] if self.size else self.pixels.shape[1]

    @property
    def height(self) -> int:
        return self.size[1] if self.size else self.pixels.shape[0]
