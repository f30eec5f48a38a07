# SPDX-License-Identifier: Apache-2.0
"""Which default boxes suit a data set's objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from ssd_ros.model.config import COCO_SCALES, VOC_SCALES, SSDConfig, ssd300_maps
from ssd_ros.model.default_boxes import default_boxes
from training.data import batches
from training.data.voc import usable

# The paper's two choices: conv4_3 at 0.1 for VOC, at 0.07 for COCO's smaller objects.
SCALES = {"voc": VOC_SCALES, "coco": COCO_SCALES}
_MOST = 1000  # images that are enough to tell


def with_scales(config: SSDConfig, choice: str, examples: Sequence[batches.Example]) -> SSDConfig:
    """A configuration with other scales of the default boxes.

    Args:
        config: everything else.
        choice: a key of SCALES, or `auto` for the one that covers the objects better.
        examples: the data set.
    """
    if choice == "auto":
        objects = _objects(examples)
        choice = max(SCALES, key=lambda name: _overlap(_scaled(config, name), objects))
    return _scaled(config, choice)


def coverage(config: SSDConfig, examples: Sequence[batches.Example]) -> float:
    """How well default boxes fit the objects of a data set.

    Returns:
        The intersection over union of each object with the default box that it overlaps most:
        mean over the objects of a class, then over the classes. 0 to 1.
    """
    return _overlap(config, _objects(examples))


def _objects(examples: Sequence[batches.Example]) -> list[tuple[Tensor, np.ndarray]]:
    """Corners as fractions, and labels, of each image that has objects."""
    objects = []
    chosen = examples[:: max(1, len(examples) // _MOST)]
    for example, (width, height) in zip(chosen, batches.sizes(chosen), strict=True):
        boxes, good = usable(example.boxes, (width, height))
        if good.any():
            corners = boxes[good] / np.array([width, height, width, height], np.float32)
            objects.append((torch.from_numpy(corners), example.labels[good]))
    return objects


def _overlap(config: SSDConfig, objects: Sequence[tuple[Tensor, np.ndarray]]) -> float:
    if not objects:
        return 0.0
    defaults = box_convert(torch.from_numpy(default_boxes(config)), "cxcywh", "xyxy")
    overlap = np.concatenate([box_iou(corners, defaults).amax(dim=1) for corners, _ in objects])
    label = np.concatenate([labels for _, labels in objects])
    sums, counts = np.bincount(label, overlap), np.bincount(label)
    return float((sums[counts > 0] / counts[counts > 0]).mean())


def _scaled(config: SSDConfig, choice: str) -> SSDConfig:
    return replace(config, feature_maps=ssd300_maps(SCALES[choice]))
