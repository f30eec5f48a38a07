# SPDX-License-Identifier: Apache-2.0
"""The detector without ROS: a list of images in, a list of Detections out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.create import create
from ssd_ros.detections import Detections, Thresholds
from ssd_ros.image import Image
from ssd_ros.model import postprocess_numpy
from ssd_ros.model.config import INPUT_SIZE, SSDConfig
from ssd_ros.weights.reader import read
from ssd_ros.weights.weights import Weights


class Detector:
    """Runs a network on images.

    Call it from one thread, `warm_up` included: on the CPU each thread that computes gets OpenMP
    workers of its own, and those of two threads slow each other down even while one rests.

    Args:
        weights: a weights file (see `ssd_ros.weights.reader`), or one that is already read.
        options: backend, device, precision, threads.
        thresholds: scores, overlaps and counts.
        class_filter: names of the classes to report; empty for all.
        strict: refuse a class filter with names that the weights do not have. Otherwise these
            match nothing.

    Attributes:
        unknown_classes: what is wrong with the class filter, with the classes of the weights; empty
            if nothing is.

    Raises:
        WeightsError: the weights file cannot be used.
        ValueError: no such backend, device, precision or class.
    """

    def __init__(
        self,
        weights: Weights | str | Path,
        options: BackendOptions = BackendOptions(),  # noqa: B008 - immutable
        thresholds: Thresholds = Thresholds(),  # noqa: B008 - immutable
        class_filter: Sequence[str] = (),
        strict: bool = True,
    ) -> None:
        if not isinstance(weights, Weights):
            weights = read(weights)
        self.classes = weights.classes
        self._config = weights.config
        self._backend = create(weights, options)
        self.backend = self._backend.name
        self.device = self._backend.device
        self.precision = self._backend.precision
        self._strict = strict
        self._set_thresholds(thresholds, class_filter)

    def with_thresholds(self, thresholds: Thresholds, class_filter: Sequence[str] = ()) -> Detector:
        """The same network under other thresholds, or for other classes; nothing is copied."""
        other = copy.copy(self)
        other._set_thresholds(thresholds, class_filter)
        return other

    def _set_thresholds(self, thresholds: Thresholds, class_filter: Sequence[str]) -> None:
        self.unknown_classes = ""
        if unknown := sorted(set(class_filter) - set(self.classes)):
            self.unknown_classes = (
                f"unknown class {', '.join(map(repr, unknown))}; "
                f"the weights have: {', '.join(self.classes)}"
            )
            if self._strict:
                raise ValueError(self.unknown_classes)
        self.thresholds = thresholds
        mask = np.array([name in class_filter for name in self.classes]) if class_filter else None
        self._postprocess = _postprocessor(self._config, thresholds, mask, self.device)

    @property
    def input_size(self) -> int:
        """Side of the network's square input in pixels."""
        return self._config.input_size

    @property
    def note(self) -> str:
        """What runs and why, for the log; warming up may extend it."""
        return self._backend.note

    def close(self) -> None:
        """Releases the network's memory, for all detectors of `with_thresholds`, too."""
        self._backend.close()

    def warm_up(self, batch: int = 1) -> None:
        """Prepares for batches of 1 to `batch` images, so that the first ones are not slow.

        Raises:
            RuntimeError: the network's outputs are not finite.
        """
        self._backend.warm_up(batch)
        size = self._config.input_size
        noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
        self([Image(noise)])

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """Detections in each image, in their order; all images are one batch.

        Raises:
            RuntimeError: the network's outputs are not finite.
        """
        if not images:
            return []
        logits, offsets = self._backend.infer(network_input(images, self._config.input_size))
        rows = self._postprocess(logits, offsets)
        starts = np.searchsorted(rows[:, 0], np.arange(len(images) + 1))
        return [
            _in_pixels(rows[starts[i] : starts[i + 1]], image) for i, image in enumerate(images)
        ]


def network_input(images: Sequence[Image], input_size: int = INPUT_SIZE) -> np.ndarray:
    """Images warped to the network's input as in the paper: uint8 RGB (B, S, S, 3).

    Args:
        images: of any size.
        input_size: S, in pixels.
    """
    batch = np.empty((len(images), input_size, input_size, 3), np.uint8)
    for image, target in zip(images, batch, strict=True):
        image.resized(input_size, input_size, "rgb", out=target)
    return batch


def _postprocessor(
    config: SSDConfig, thresholds: Thresholds, class_mask: np.ndarray | None, device: str
) -> Callable[..., np.ndarray]:
    """Post-processing where the backend's outputs are; PyTorch is imported only for CUDA."""
    if not device.startswith("cuda"):
        return postprocess_numpy.Postprocessor(config, thresholds, class_mask)
    from ssd_ros.model import postprocess

    return postprocess.Postprocessor(config, thresholds, class_mask, device)


def _in_pixels(rows: np.ndarray, image: Image) -> Detections:
    scale = np.array([image.width, image.height] * 2, np.float32)
    return Detections(rows[:, 3:] * scale, rows[:, 2].copy(), rows[:, 1].astype(np.int64))
