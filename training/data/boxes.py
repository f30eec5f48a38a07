# SPDX-License-Identifier: Apache-2.0
"""Which annotated boxes can be trained on."""

from __future__ import annotations

import numpy as np


def clip_and_validate(boxes: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes clipped to the image, and which of them can be trained on.

    Boxes that the file writes with xmin = xmax, with swapped corners, or outside the image are
    invalid: the logarithm of a side of length 0 makes the loss infinite.

    Args:
        boxes: float (N, 4) in pixels.
        size: width and height of the image.

    Returns:
        float32 (N, 4), and bool (N,).
    """
    clipped = boxes.clip(0, np.array([*size, *size], np.float32)).astype(np.float32)
    valid = (boxes[:, 2:] > boxes[:, :2] + 1) & (clipped[:, 2:] > clipped[:, :2])
    return clipped, np.asarray(valid.all(axis=1))
