# SPDX-License-Identifier: Apache-2.0
"""Box arithmetic that data, trainer and evaluation share. Boxes are x1 y1 x2 y2."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union; 0 for boxes without area.

    The leading dimensions broadcast: (N, 4) with (N, 4) compares row by row, (B, M, 1, 4) with
    (N, 4) compares all pairs. torchvision's `box_iou` has neither form in older releases.

    Args:
        boxes, others: floating point (..., 4), on one scale.

    Returns:
        (...), 0 to 1.
    """
    sides = torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(
        boxes[..., :2], others[..., :2]
    )
    intersection = sides.clamp_(min=0).prod(dim=-1)
    union = _area(boxes) + _area(others) - intersection
    return intersection / union.clamp_(min=torch.finfo(union.dtype).tiny)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp_(min=0).prod(dim=-1)


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
