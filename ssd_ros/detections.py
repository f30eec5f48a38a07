# SPDX-License-Identifier: Apache-2.0
"""Detections, and the thresholds that candidates must pass. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Detections:
    """The detections of one image, by descending score.

    Attributes:
        boxes: float32 (N, 4), x1 y1 x2 y2 in pixels of the image, continuous coordinates,
            0 <= x1 < x2 <= width.
        scores: float32 (N,), 0 to 1, descending.
        labels: int64 (N,), 0-based index into the detector's classes.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Thresholds:
    """Which candidates become detections.

    Attributes:
        score_threshold: a detection's score is above it, 0 to 1.
        nms_iou_threshold: IoU threshold for per-class non-maximum suppression, 0 to 1.
        max_detections: maximum number per image; the highest scores are kept.
        top_k: maximum number of candidates per image and class before the suppression.

    Raises:
        ValueError: a value is out of its range.
    """

    score_threshold: float = 0.5
    nms_iou_threshold: float = 0.45
    max_detections: int = 200
    top_k: int = 400

    def __post_init__(self) -> None:
        for name in ("score_threshold", "nms_iou_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        for name in ("max_detections", "top_k"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
