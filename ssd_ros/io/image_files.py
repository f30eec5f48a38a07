# SPDX-License-Identifier: Apache-2.0
"""Image files: found in folders, read and written with errors that name them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from ssd_ros import atomic

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"))


def find(paths: Iterable[str | Path]) -> list[Path]:
    """Image files named by paths: files as they are, folders as their images, sorted by name.

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


def read(path: Path) -> np.ndarray:
    """An image file as BGR uint8 (H, W, 3), upright where the file says how it was held.

    Raises:
        ValueError: the file cannot be read as an image.
    """
    try:  # not cv2.imread, which prints to the terminal and does not say why
        data = np.frombuffer(path.read_bytes(), np.uint8)
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    except OSError as error:
        raise ValueError(f"image '{path}' cannot be read: {error.strerror}") from None
    except cv2.error as error:
        raise ValueError(f"image '{path}' cannot be decoded: {error.err}") from None
    if pixels is None:
        raise ValueError(f"'{path}' is not an image ({len(data)} bytes)")
    return pixels


def write(path: Path, pixels: np.ndarray) -> None:
    """Writes BGR pixels in the format that the name asks for; never leaves half a file."""
    done, data = cv2.imencode(path.suffix, pixels)
    if not done:
        raise ValueError(f"image '{path}' cannot be encoded")
    atomic.write(path, data.tobytes())
