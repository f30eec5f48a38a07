# SPDX-License-Identifier: Apache-2.0
"""Matches detections to ground truth, by the rules of the official PASCAL VOC development kit.

For each class, detections of all images are taken by descending score. Each is compared with the
object of its class in its image that it overlaps most. Where the overlap is large enough, it is
a true positive if it is the first on that object, and a false positive if it is a duplicate; it
is ignored if the object is marked difficult. Everything else is a false positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssd_ros.model.boxes import iou

_MAX_PAIRS = 4_000_000  # detection-object pairs in memory at once


@dataclass(frozen=True)
class GroundTruth:
    """Annotated objects of an image set in one table: rows in any order.

    Attributes:
        image_index: int (N,), index of the image.
        label: int (N,), 0-based index of the class.
        boxes: (N, 4) x1 y1 x2 y2, continuous coordinates on any scale.
        difficult: bool (N,), annotated as hard to recognise: counted neither way.

    Raises:
        ValueError: the columns differ in length.
    """

    image_index: np.ndarray
    label: np.ndarray
    boxes: np.ndarray
    difficult: np.ndarray

    def __post_init__(self) -> None:
        _check_columns(self.image_index, self.label, self.boxes, difficult=self.difficult)


@dataclass(frozen=True)
class Predictions:
    """Detections in an image set in one table: rows in any order.

    Attributes:
        image_index, label, boxes: as of `GroundTruth`.
        scores: (N,) finite; of equal scores the earlier row comes first.

    Raises:
        ValueError: the columns differ in length, or a score is not finite.
    """

    image_index: np.ndarray
    label: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        _check_columns(self.image_index, self.label, self.boxes, scores=self.scores)
        if not np.isfinite(self.scores).all():
            raise ValueError("scores must be finite")


def _check_columns(
    image_index: np.ndarray, label: np.ndarray, boxes: np.ndarray, **more: np.ndarray
) -> None:
    count = len(image_index)
    for name, column, shape in [
        ("image", image_index, (count,)),
        ("label", label, (count,)),
        ("boxes", boxes, (count, 4)),
        *((name, column, (count,)) for name, column in more.items()),
    ]:
        if column.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {column.shape}")


@dataclass(frozen=True)
class Matches:
    """What each detection is, in the order of the rows.

    Attributes:
        true_positive: bool (D,).
        ignored: bool (D,), on difficult objects: counted neither way. All others are false
            positives.
        target: int (D,), row of the object that it overlaps most, -1 where there is none.
    """

    true_positive: np.ndarray
    ignored: np.ndarray
    target: np.ndarray


def match_detections(
    detections: Predictions,
    ground_truth: GroundTruth,
    num_classes: int,
    iou_threshold: float = 0.5,
) -> Matches:
    """What each detection is; arguments and errors as of `voc_ap.evaluate`."""
    for name, table in (("detections", detections), ("objects", ground_truth)):
        label, image_index = table.label, table.image_index
        if len(label) and not (label.min() >= 0 and label.max() < num_classes):
            raise ValueError(f"labels of {name} must be from 0 to {num_classes - 1}")
        if len(image_index) and image_index.min() < 0:
            raise ValueError(f"image indices of {name} must not be negative")
    target, overlap = _best_object(detections, ground_truth, num_classes)
    hits = overlap >= iou_threshold
    ignored = np.zeros(len(target), dtype=bool)
    ignored[hits] = ground_truth.difficult[target[hits]]
    by_score = np.argsort(-detections.scores, kind="stable")
    by_score = by_score[(hits & ~ignored)[by_score]]
    true_positive = np.zeros(len(target), dtype=bool)
    true_positive[by_score[_first_of_each(target[by_score])]] = True
    return Matches(true_positive, ignored, target)


def _first_of_each(values: np.ndarray) -> np.ndarray:
    """Mask of the first occurrence of each value."""
    mask = np.zeros(len(values), dtype=bool)
    mask[np.unique(values, return_index=True)[1]] = True
    return mask


def _best_object(
    detections: Predictions, ground_truth: GroundTruth, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """For each detection the object of its image and class that it overlaps most.

    Returns:
        int (D,) row of the object, -1 where there is none, and (D,) their intersection over union,
        -1 where there is none. Of equal overlaps the first object counts.
    """
    best = np.full(len(detections.image_index), -1, dtype=np.int64)
    overlap = np.full(len(detections.image_index), -1.0)
    object_key = ground_truth.image_index.astype(np.int64) * num_classes + ground_truth.label
    by_key = np.argsort(object_key, kind="stable")
    sorted_keys = object_key[by_key]
    key = detections.image_index.astype(np.int64) * num_classes + detections.label
    first = np.searchsorted(sorted_keys, key, side="left")
    candidates = np.searchsorted(sorted_keys, key, side="right") - first

    rows = np.flatnonzero(candidates)
    total = np.cumsum(candidates[rows])
    cuts = np.searchsorted(total, np.arange(_MAX_PAIRS, total[-1] if len(total) else 0, _MAX_PAIRS))
    for part in np.split(rows, cuts):
        if not len(part):
            continue
        count = candidates[part]
        start = np.cumsum(count) - count
        within = np.arange(count.sum()) - np.repeat(start, count)
        pair_object = by_key[np.repeat(first[part], count) + within]
        overlaps = iou(detections.boxes[np.repeat(part, count)], ground_truth.boxes[pair_object])
        largest = np.maximum.reduceat(overlaps, start)
        is_largest = np.flatnonzero(overlaps == np.repeat(largest, count))
        first_largest = is_largest[np.searchsorted(is_largest, start)]
        best[part], overlap[part] = pair_object[first_largest], largest
    return best, overlap
