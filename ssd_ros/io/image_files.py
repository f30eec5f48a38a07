# SPDX-License-Identifier: Apache-2.0
"""Image files: found in folders, read, encoded and written, with errors that name the file."""

from __future__ import annotations

import io
import stat
import warnings
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps

from ssd_ros import atomic, bit_depth, encoded, jpeg
from ssd_ros.image import ImageError

SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"),
        *(".gif", ".avif"),
    )
)
# Which formats OpenCV turns upright depends on its version.
_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_DECODED_BY_PILLOW = ("GIF", "AVIF")  # some versions of OpenCV cannot
MAX_BYTES = 2**29


def find(paths: Iterable[str | Path]) -> list[Path]:
    """The image files that paths stand for: files as given, folders as their images by name.

    Raises:
        FileNotFoundError: a path does not exist, or a folder holds no image.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            if not path.exists():
                raise FileNotFoundError(f"no such file or folder: '{path}'")
            files.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        if not inside:
            raise FileNotFoundError(
                f"folder '{path}' holds no images ({', '.join(sorted(SUFFIXES))})"
            )
        files += inside
    return files


def read(path: Path, mono16_range: str = bit_depth.PERCENTILES) -> np.ndarray:
    """An image file as BGR uint8 (H, W, 3), rotated upright by its EXIF orientation.

    Args:
        mono16_range: of 16-bit grey images, see `bit_depth.to_8_bits`.

    Raises:
        ImageError: the file is no image, is cut off, too large, or would take too long to decode.
    """
    header = _header(path)
    try:  # not cv2.imread, which prints to the terminal and does not say why
        data = path.read_bytes()
        if header and jpeg.is_jpeg(memoryview(data)):
            jpeg.check(memoryview(data), header.size)
        if header and header.kind in _DECODED_BY_PILLOW:
            return _decode_with_pillow(path, data)
        buffer = np.frombuffer(data, np.uint8)
        pixels = bit_depth.decode(buffer, _FLAGS, mono16_range) if data else None
    except ImageError as error:
        raise ImageError(f"cannot read image '{path}': {error}") from None
    except OSError as error:
        raise ImageError(f"cannot read image '{path}': {error.strerror}") from None
    except cv2.error as error:
        raise ImageError(f"cannot decode image '{path}': {error.err}") from None
    if pixels is None:
        raise ImageError(f"'{path}' is not an image ({len(data)} bytes)")
    return _upright(pixels, header.orientation if header else 1)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The image turned by its EXIF orientation, 1 to 8."""
    if orientation >= 5:
        pixels = cv2.transpose(pixels)
    # OpenCV's codes for a flip: 0 upside down, 1 left to right, -1 both.
    code = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return pixels if code is None else cv2.flip(pixels, code)


def _decode_with_pillow(path: Path, data: bytes) -> np.ndarray:
    """BGR uint8 (H, W, 3), turned upright; of several images the first."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of strange metadata
            with PillowImage.open(io.BytesIO(data)) as image:
                pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception as error:  # Pillow's plugins raise nearly anything on broken data
        raise ImageError(f"cannot decode image '{path}': {error}") from None
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)


def read_size(path: Path) -> tuple[int, int]:
    """Width and height of the image that `read` returns; see `read_view`."""
    return read_view(path)[0]


def read_view(path: Path) -> tuple[tuple[int, int], int]:
    """Size of the image that `read` returns, and the EXIF orientation by which it is turned.

    Both come from the file's header if they can.

    Returns:
        Width and height, and the orientation, 1 to 8; 1 for an image that is stored upright.

    Raises:
        ImageError: see `read`.
    """
    header = _header(path)
    if header is None:
        height, width = read(path).shape[:2]
        return (width, height), 1
    return header.upright_size, header.orientation


def _header(path: Path) -> encoded.Header | None:
    """The header of an image file; None where only OpenCV may know the format.

    Raises:
        ImageError: the file is not a regular one, or it or the image is too large.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a FIFO would be waited for, a device never end
            raise ImageError("not a regular file")
        if status.st_size > MAX_BYTES:
            raise ImageError(f"{status.st_size} bytes, expected at most {MAX_BYTES}")
        return encoded.read_header(path)
    except ImageError as error:
        raise ImageError(f"cannot read image '{path}': {error}") from None
    except OSError as error:
        raise ImageError(f"cannot read image '{path}': {error.strerror}") from None


def write(path: Path, pixels: np.ndarray) -> None:
    """Writes BGR pixels in the format of the path's suffix, completely or not at all.

    Raises:
        ValueError: OpenCV cannot write this format.
        OSError: the file cannot be written.
    """
    try:
        encoded, data = cv2.imencode(path.suffix, pixels)
    except cv2.error as error:
        raise ValueError(f"cannot encode image '{path}': {error.err}") from None
    if not encoded:
        raise ValueError(f"cannot encode image '{path}'")
    atomic.write(path, data.tobytes())
