# SPDX-License-Identifier: Apache-2.0
"""The detector without ROS: a list of images in, a list of Detections out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ssd_ros.backends.pytorch import TorchBackend
from ssd_ros.detections import Detections, Thresholds
from ssd_ros.image import Image
from ssd_ros.model.config import INPUT_SIZE
from ssd_ros.model.postprocess import postprocess
from ssd_ros.weights.reader import read
from ssd_ros.weights.weights import Weights


class Detector:
    """Runs SSD300 on images.

    Call it from one thread, `warm_up` included: on the CPU each thread that computes gets OpenMP
    workers of its own, and those of two threads slow each other down even while one rests.

    Args:
        weights: a weights file (see `ssd_ros.weights.reader`), or one that is already read.
        device, precision: see `ssd_ros.backends.pytorch.TorchBackend`.
        thresholds: scores, overlaps and counts.
        class_filter: names of the classes to report; empty for all.

    Raises:
        WeightsError: the weights file cannot be used.
        ValueError: no such device, precision or class.
    """

    def __init__(
        self,
        weights: Weights | str | Path,
        device: str = "auto",
        precision: str = "auto",
        thresholds: Thresholds = Thresholds(),  # noqa: B008 - immutable
        class_filter: Sequence[str] = (),
    ) -> None:
        if not isinstance(weights, Weights):
            weights = read(weights)
        self.classes = weights.classes
        self._backend = TorchBackend(weights.model(), device, precision)
        self.device = str(self._backend.device)
        self.precision = self._backend.precision
        self._set_thresholds(thresholds, class_filter)

    def with_thresholds(self, thresholds: Thresholds, class_filter: Sequence[str] = ()) -> Detector:
        """The same network under other thresholds, or for other classes; nothing is copied."""
        other = copy.copy(self)
        other._set_thresholds(thresholds, class_filter)
        return other

    def _set_thresholds(self, thresholds: Thresholds, class_filter: Sequence[str]) -> None:
        unknown = sorted(set(class_filter) - set(self.classes))
        if unknown:
            raise ValueError(
                f"unknown class {', '.join(map(repr, unknown))}; "
                f"the weights have: {', '.join(self.classes)}"
            )
        self.thresholds = thresholds
        mask = [not class_filter or name in class_filter for name in self.classes]
        self._class_mask = torch.tensor(mask, device=self._backend.device) if class_filter else None

    def warm_up(self, batch: int = 1) -> None:
        """Runs once on an empty batch, so that the first real one is not slow."""
        blank = np.zeros((INPUT_SIZE, INPUT_SIZE, 3), np.uint8)
        self([Image(blank)] * batch)

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """Detections in each image, in their order; all images are one batch."""
        if not images:
            return []
        with torch.inference_mode():
            scores, offsets = self._backend(network_input(images))
            found = postprocess(
                scores, offsets, self._backend.defaults, self.thresholds, self._class_mask
            )
            rows = found.cpu().numpy()
        starts = np.searchsorted(rows[:, 0], np.arange(len(images) + 1))
        return [
            _in_pixels(rows[starts[i] : starts[i + 1]], image) for i, image in enumerate(images)
        ]


def network_input(images: Sequence[Image]) -> np.ndarray:
    """Images warped to the network's input as in the paper: uint8 RGB (B, 300, 300, 3)."""
    batch = np.empty((len(images), INPUT_SIZE, INPUT_SIZE, 3), np.uint8)
    for image, target in zip(images, batch, strict=True):
        image.resized(INPUT_SIZE, INPUT_SIZE, "rgb", out=target)
    return batch


def _in_pixels(rows: np.ndarray, image: Image) -> Detections:
    scale = np.array([image.width, image.height] * 2, np.float32)
    return Detections(rows[:, 3:] * scale, rows[:, 2].copy(), rows[:, 1].astype(np.int64))
