# SPDX-License-Identifier: Apache-2.0
"""Boxes of photographs that are stored on their side or upside down.

An image file may say by its EXIF orientation that it has to be turned for display. Some labelling
tools show and label the turned image, others the stored one. The detector, and so everything in
`training`, sees the turned, upright one: boxes in the stored view are turned with it when they are
read.
"""

from __future__ import annotations

import numpy as np

from ssd_ros.encoded import TURNED

# Which view was labelled, where the size in the annotation does not tell; auto: upright, reported.
CHOICES = ("auto", "upright", "stored")
HELP = (
    "view of an image that its boxes refer to, where the EXIF orientation turns it and the size in "
    "the annotation does not tell; auto: upright, with a warning"
)


def labelled_view(
    orientation: int, size: tuple[int, int], stated: tuple[int, int] | None
) -> str | None:
    """The view that was labelled: `upright`, `stored`, or None where both are possible.

    Args:
        orientation: EXIF's, 1 to 8.
        size: width and height of the upright image.
        stated: the same in the annotation.
    """
    if orientation == 1:
        return "upright"
    if orientation not in TURNED or size[0] == size[1]:
        return None
    return {size: "upright", size[::-1]: "stored"}.get(stated or (0, 0))


def stored_size(orientation: int, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the stored image, or of the upright one from that of the stored."""
    return size[::-1] if orientation in TURNED else size


def to_upright(boxes: np.ndarray, orientation: int, size: tuple[int, int]) -> np.ndarray:
    """Boxes of the stored image in the upright one.

    Args:
        boxes: float32 (N, 4), x1 y1 x2 y2 in pixels; swapped corners stay swapped.
        orientation: EXIF's, 1 to 8.
        size: width and height of the stored image.
    """
    x, y = boxes[:, 0::2], boxes[:, 1::2]
    from_right, from_bottom = size[0] - x[:, ::-1], size[1] - y[:, ::-1]
    columns, rows = {
        1: (x, y),
        2: (from_right, y),
        3: (from_right, from_bottom),
        4: (x, from_bottom),
        5: (y, x),
        6: (from_bottom, x),
        7: (from_bottom, from_right),
        8: (y, from_right),
    }[orientation]
    return np.stack((columns, rows), axis=2).reshape(-1, 4).astype(boxes.dtype)
