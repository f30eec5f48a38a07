# SPDX-License-Identifier: Apache-2.0
"""Which scales of the default boxes fit a dataset's objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ssd_ros.model.boxes import iou
from ssd_ros.model.config import COCO_SCALES, VOC_SCALES, SSDConfig, ssd300_maps
from ssd_ros.model.default_boxes import default_boxes
from training.data.boxes import clip_and_validate
from training.data.samples import Sample

# The paper's two choices: conv4_3 at 0.1 for VOC, at 0.07 for COCO's smaller objects.
SCALES = {"voc": VOC_SCALES, "coco": COCO_SCALES}
_MAX_IMAGES = 1000  # enough for the comparison


def with_scales(config: SSDConfig, choice: str, samples: Sequence[Sample]) -> SSDConfig:
    """A configuration with other scales of the default boxes.

    Args:
        config: all its other values stay.
        choice: a key of SCALES, or `auto` for the one with the larger `coverage`.
        samples: the dataset; used for `auto` only.
    """
    if choice == "auto":
        objects = _objects(samples)
        choice = max(SCALES, key=lambda name: _overlap(_scaled(config, name), objects))
    return _scaled(config, choice)


def coverage(config: SSDConfig, samples: Sequence[Sample]) -> float:
    """How well default boxes fit the objects of a dataset.

    Returns:
        The intersection over union of each object with the default box that it overlaps most:
        mean over the objects of a class, then over the classes. 0 to 1.
    """
    return _overlap(config, _objects(samples))


def best_overlaps(config: SSDConfig, boxes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """For each object the IoU with the default box that it overlaps most.

    Args:
        boxes: for each image (N, 4), x1 y1 x2 y2 as fractions.
    """
    centres, sizes = np.split(default_boxes(config), 2, axis=1)
    defaults = np.concatenate((centres - sizes / 2, centres + sizes / 2), axis=1)
    return [iou(corners[:, None], defaults).max(axis=1) for corners in boxes]


def _objects(samples: Sequence[Sample]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Corners as fractions, and labels, of each image that has objects."""
    objects = []
    subset = samples[:: max(1, len(samples) // _MAX_IMAGES)]
    for sample in subset:
        boxes, valid = clip_and_validate(sample.boxes, sample.size)
        if valid.any():
            corners = boxes[valid] / np.array([*sample.size, *sample.size], np.float32)
            objects.append((corners, sample.labels[valid]))
    return objects


def _overlap(config: SSDConfig, objects: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    if not objects:
        return 0.0
    overlap = np.concatenate(best_overlaps(config, [boxes for boxes, _ in objects]))
    label = np.concatenate([labels for _, labels in objects])
    sums, counts = np.bincount(label, overlap), np.bincount(label)
    return float((sums[counts > 0] / counts[counts > 0]).mean())


def _scaled(config: SSDConfig, choice: str) -> SSDConfig:
    cells, steps = zip(*((m.cells, m.step) for m in config.feature_maps), strict=True)
    return replace(config, feature_maps=ssd300_maps(SCALES[choice], steps=steps, cells=cells))
