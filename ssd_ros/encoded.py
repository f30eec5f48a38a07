# SPDX-License-Identifier: Apache-2.0
"""What encoded images say about themselves, before they are decoded."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image as PillowImage
from PIL import TiffImagePlugin

from ssd_ros.image import ImageError

MAX_PIXELS = 2**27  # 400 MB when decoded; below the limit at which Pillow raises an error
_WIDTH, _HEIGHT, _ORIENTATION = 0x0100, 0x0101, 0x0112
TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_TURNED_UPRIGHT = ("JPEG", "MPO", "PNG", "WEBP", "AVIF")  # when they are read


@dataclass(frozen=True)
class Header:
    """The header of an encoded image.

    Attributes:
        kind: `JPEG`, `PNG`, …, as Pillow names it.
        size: width and height in pixels as encoded.
        orientation: EXIF's, 1 to 8, by which the image is turned when it is read; else 1.
    """

    kind: str
    size: tuple[int, int]
    orientation: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height after the rotation by the EXIF orientation."""
        return self.size[::-1] if self.orientation in TURNED else self.size


def read_header(file: Path | BinaryIO) -> Header | None:
    """The header of an image; no pixel is decoded. None if Pillow does not know the format.

    Raises:
        ImageError: the image has more than MAX_PIXELS.
        OSError: the file cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own limit, and of strange metadata
            with PillowImage.open(file) as image:
                kind, size = image.format or "", _size(image)
                orientation = _orientation(image) if kind in _TURNED_UPRIGHT else 1
    except PillowImage.DecompressionBombError:
        raise ImageError(f"more than {MAX_PIXELS} pixels") from None
    except Exception as error:  # Pillow's plugins raise nearly anything on broken data
        if isinstance(error, OSError) and error.errno is not None:
            raise
        return None
    if size[0] * size[1] > MAX_PIXELS:
        raise ImageError(f"{size[0]}x{size[1]} pixels, expected at most {MAX_PIXELS}")
    return Header(kind, size, orientation)


def _size(image: PillowImage.Image) -> tuple[int, int]:
    """Width and height when decoded: OpenCV turns TIFF by itself, which old Pillow does not say."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.size
    width, height = image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]
    return (height, width) if image.tag_v2.get(_ORIENTATION) in TURNED else (width, height)


def _orientation(image: PillowImage.Image) -> int:
    exif = PillowImage.Exif()  # not image.getexif(), which decodes a PNG
    exif.load(image.info.get("exif") or b"")
    value = exif.get(_ORIENTATION)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
