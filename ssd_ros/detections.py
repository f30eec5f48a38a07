# SPDX-License-Identifier: Apache-2.0
"""Detections, and the thresholds that decide which candidates become one. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best first.

    Attributes:
        boxes: float32 (N, 4), x1 y1 x2 y2 in pixels of the image, continuous coordinates,
            0 <= x1 < x2 <= width.
        scores: float32 (N,), 0 to 1, falling.
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
        nms_iou_threshold: of two boxes of a class that overlap by more than this intersection
            over union, only the better scored one stays, 0 to 1.
        max_detections: at most so many in an image.
        top_k: candidates of an image and class that reach the suppression.

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
