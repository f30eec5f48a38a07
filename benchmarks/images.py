# SPDX-License-Identifier: Apache-2.0
"""The image of the benchmarks, and of their cameras. No ROS."""

from __future__ import annotations

import cv2
import numpy as np

SIZE = (640, 480)  # where nothing else is said


def image_of(size: tuple[int, int]) -> np.ndarray:
    """An image with the structure of one: smooth areas, edges, some noise. BGR (H, W, 3)."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    large = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
    return cv2.add(large, rng.integers(0, 8, large.shape, dtype=np.uint8))
