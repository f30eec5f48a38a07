# SPDX-License-Identifier: Apache-2.0
"""One image in memory and its channel orders. NumPy and OpenCV only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

ChannelOrder = Literal["rgb", "bgr", "rgba", "bgra", "mono"]
CHANNELS: dict[ChannelOrder, int] = {"rgb": 3, "bgr": 3, "rgba": 4, "bgra": 4, "mono": 1}
MAX_REASON = 1000  # characters of the text of an ImageError


def printable(text: str) -> str:
    """The text with escape sequences instead of characters that terminals would interpret."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


class ImageError(ValueError):
    """An image that is inconsistent or cannot be read or decoded; the message says why.

    Args:
        reason: may contain what came with the image. It is cut, and control characters are
            replaced: it goes to terminals and logs.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(printable(reason[:MAX_REASON]))


@dataclass(frozen=True)
class Image:
    """One image as it lies in memory.

    Attributes:
        pixels: uint8 (H, W, C), or (H, W) where `order` is mono; rows may be padded.
        order: what the channels are.
        size: width and height of the image that detections refer to, where `pixels` are a
            reduced copy of it; None where they are the image itself.

    Raises:
        ImageError: the pixels are not 8-bit, empty, or have another number of channels.
    """

    pixels: np.ndarray
    order: ChannelOrder = "bgr"
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        shape, channels = self.pixels.shape, CHANNELS[self.order]
        fits = shape[2:] == (channels,) or (len(shape) == 2 and channels == 1)
        if self.pixels.dtype != np.uint8 or not fits or 0 in shape:
            raise ImageError(
                f"a {self.order} image must be uint8 of shape (H, W, {channels}), "
                f"got {self.pixels.dtype} of shape {shape}"
            )

    @property
    def width(self) -> int:
        return self.size[0] if self.size else self.pixels.shape[1]

    @property
    def height(self) -> int:
        return self.size[1] if self.size else self.pixels.shape[0]

    def to(self, order: ChannelOrder) -> Image:
        """The image in another channel order; itself, not a copy, if it has that order."""
        if order == self.order:
            return self
        return Image(cv2.cvtColor(self.pixels, _conversion(self.order, order)), order, self.size)

    def resized(
        self, width: int, height: int, order: ChannelOrder, out: np.ndarray | None = None
    ) -> np.ndarray:
        """A copy of the pixels, warped to another size and converted to another channel order.

        The pixels are resized first and converted afterwards, so that the cost of the conversion
        does not depend on the image's size.

        Args:
            width, height: of the result, in pixels.
            order: of the result's channels.
            out: uint8 (height, width, C), written to instead of new memory.

        Returns:
            uint8 (height, width, C), or (height, width) for mono.
        """
        if order == self.order:
            return warp(self.pixels, width, height, out)
        same_size = self.pixels.shape[:2] == (height, width)
        pixels = self.pixels if same_size else warp(self.pixels, width, height)
        return cv2.cvtColor(pixels, _conversion(self.order, order), dst=out)


def warp(pixels: np.ndarray, width: int, height: int, out: np.ndarray | None = None) -> np.ndarray:
    """Pixels in another size; the one way to the network's input, in training and on the robot.

    Much larger images are first halved, by averaging, as often as both sides remain large enough.
    That is what JPEG decoders do when they decode at a fraction of the size, so raw and compressed
    images are the same to the network, and noise and fine patterns cause no aliasing.

    Args:
        pixels: uint8 (H, W, C) or (H, W).
        width, height: of the result.
        out: uint8 of the result's shape, written to instead of new memory.
    """
    rows, columns = pixels.shape[:2]
    if rows == columns == 1:  # OpenCV 4.5 (Ubuntu 22.04) refuses the strides of a single pixel
        pixels = np.concatenate([pixels, pixels])
    reduction = 1
    while columns >= 2 * reduction * width and rows >= 2 * reduction * height:
        reduction *= 2
    if reduction > 1:
        size = -(-columns // reduction), -(-rows // reduction)
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return cv2.resize(pixels, (width, height), dst=out)


def _conversion(source: ChannelOrder, target: ChannelOrder) -> int:
    """OpenCV's code for a conversion: it has one for each pair of different orders."""
    names = (order.upper().replace("MONO", "GRAY") for order in (source, target))
    return getattr(cv2, "COLOR_" + "2".join(names))
