# SPDX-License-Identifier: Apache-2.0
"""Boxes that enclose other shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence

Box = tuple[float, float, float, float]  # x1 y1 x2 y2


def enclose_points(xs: Sequence[float], ys: Sequence[float]) -> Box:
    """The box around points.

    Raises:
        ValueError: less than two points, or a coordinate without its pair.
    """
    if len(xs) < 2 or len(xs) != len(ys):
        count = len(xs) + len(ys)
        raise ValueError(f"{count} coordinates, expected x y pairs of 2 points or more")
    return min(xs), min(ys), max(xs), max(ys)


def enclose_boxes(boxes: Sequence[Box]) -> Box:
    """The box around boxes."""
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def enclose_rotated(box: Box, degrees: float) -> Box:
    """The box around a box that is rotated about its centre."""
    centre_x, centre_y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    width, height = box[2] - box[0], box[3] - box[1]
    cosine, sine = (abs(f(math.radians(degrees))) for f in (math.cos, math.sin))
    half_width = (width * cosine + height * sine) / 2
    half_height = (width * sine + height * cosine) / 2
    return (
        centre_x - half_width,
        centre_y - half_height,
        centre_x + half_width,
        centre_y + half_height,
    )
