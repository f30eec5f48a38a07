# SPDX-License-Identifier: Apache-2.0
"""Box arithmetic in NumPy."""

from __future__ import annotations

import numpy as np


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union, in double precision; 0 for boxes without area.

    The leading dimensions broadcast: (N, 4) with (N, 4) compares row by row, (M, 1, 4) with
    (N, 4) compares all pairs.

    Args:
        boxes, others: (..., 4), x1 y1 x2 y2 on one scale.

    Returns:
        (...), 0 to 1.
    """
    boxes, others = np.asarray(boxes, np.float64), np.asarray(others, np.float64)
    ax1, ay1, ax2, ay2 = (boxes[..., k] for k in range(4))
    bx1, by1, bx2, by2 = (others[..., k] for k in range(4))
    shared = _area(
        np.minimum(ax2, bx2) - np.maximum(ax1, bx1), np.minimum(ay2, by2) - np.maximum(ay1, by1)
    )
    union = _area(ax2 - ax1, ay2 - ay1) + _area(bx2 - bx1, by2 - by1) - shared
    return shared / np.maximum(union, np.finfo(np.float64).tiny)


def _area(width: np.ndarray, height: np.ndarray) -> np.ndarray:
    return np.maximum(width, 0) * np.maximum(height, 0)
