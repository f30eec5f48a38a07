# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC average precision, by the rules of the official development kit.

For each class, detections of all images are taken by falling score. Each is held against the
object of its class in its image that it overlaps most. Where the overlap is large enough, it is
a true positive if it is the first on that object, and a false positive if it is a duplicate; it
is not counted at all if the object is marked difficult. Everything else is a false positive.
Recall is over the objects that are not difficult.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_MAX_PAIRS = 4_000_000  # detection-object pairs in memory at once


@dataclass(frozen=True)
class GroundTruth:
    """Boxes of all images of a set in one table: rows in any order.

    Attributes:
        image_index: int (N,), index of the image.
        label: int (N,), 0-based index of the class.
        boxes: (N, 4) x1 y1 x2 y2, continuous coordinates on any scale.
        difficult: bool (N,), annotated as hard to recognise.

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
    """Detections of all images of a set in one table: rows in any order.

    Attributes:
        image_index, label, boxes: as of `GroundTruth`.
        scores: (N,) finite, larger is surer; of equal scores the earlier row counts as surer.

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
class ClassResult:
    """How well one class is detected.

    Attributes:
        positives: objects that are not difficult.
        detections: detections of the class, those on difficult objects included.
        recall, precision, scores: (D,) after each counted detection, by falling score; detections
            on difficult objects are not among them.
        ap_11: mean of the best precision at recalls of at least 0, 0.1, … 1 (VOC2007).
        ap: area under the precision-recall curve made monotonic (VOC2010 and later).
            Both are NaN where there are no positives: such a class has no average precision.
    """

    positives: int
    detections: int
    recall: np.ndarray
    precision: np.ndarray
    scores: np.ndarray
    ap_11: float
    ap: float


@dataclass(frozen=True)
class Verdicts:
    """What each detection is, in the order of the rows.

    Attributes:
        true: bool (D,), true positives.
        ignored: bool (D,), on difficult objects: counted neither way. The rest is false positives.
        target: int (D,), row of the object that it overlaps most, -1 where there is none.
    """

    true: np.ndarray
    ignored: np.ndarray
    target: np.ndarray


def evaluate(
    detections: Predictions, objects: GroundTruth, num_classes: int, iou_threshold: float = 0.5
) -> list[ClassResult]:
    """The result of each class.

    Args:
        detections: what was found.
        objects: what is there.
        num_classes: classes, without the background; labels are below it.
        iou_threshold: a detection hits an object at this intersection over union or more.

    Raises:
        ValueError: a label or image index is out of range.
    """
    for name, table in (("detections", detections), ("objects", objects)):
        label, image_index = table.label, table.image_index
        if len(label) and not (label.min() >= 0 and label.max() < num_classes):
            raise ValueError(f"labels of {name} must be from 0 to {num_classes - 1}")
        if len(image_index) and image_index.min() < 0:
            raise ValueError(f"image indices of {name} must not be negative")

    verdicts = judge(detections, objects, num_classes, iou_threshold)
    # By class, then falling score; stable, so that ties keep the order of the rows.
    order = np.lexsort((-detections.scores, detections.label))
    label, scores = detections.label[order], detections.scores[order]
    true, difficult = verdicts.true[order], verdicts.ignored[order]

    results = []
    starts = np.searchsorted(label, np.arange(num_classes + 1))
    positives = np.bincount(objects.label[~objects.difficult], minlength=num_classes)
    for k in range(num_classes):
        rows = slice(starts[k], starts[k + 1])
        counted = ~difficult[rows]
        results.append(
            _result(
                true[rows][counted],
                scores[rows][counted],
                int(positives[k]),
                int(starts[k + 1] - starts[k]),
            )
        )
    return results


def judge(
    detections: Predictions, objects: GroundTruth, num_classes: int, iou_threshold: float = 0.5
) -> Verdicts:
    """What each detection is by the devkit's rules; arguments as of `evaluate`."""
    target, overlap = _best_object(detections, objects, num_classes)
    hits = overlap >= iou_threshold
    ignored = np.zeros(len(target), dtype=bool)
    ignored[hits] = objects.difficult[target[hits]]
    true = np.zeros(len(target), dtype=bool)
    surest = np.argsort(-detections.scores, kind="stable")
    surest = surest[(hits & ~ignored)[surest]]
    true[surest[_first_of_each(target[surest])]] = True
    return Verdicts(true, ignored, target)


def mean(values: Sequence[float]) -> float:
    """Mean over the classes that have an average precision; NaN where none has."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _result(true: np.ndarray, scores: np.ndarray, positives: int, detections: int) -> ClassResult:
    hits = np.cumsum(true)
    precision = hits / np.arange(1, len(hits) + 1)
    recall = hits / positives if positives else np.full(len(hits), np.nan)
    if not positives:
        ap_11 = ap = float("nan")
    else:
        # Best precision at this recall or a higher one.
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        # Recalls are compared as whole numbers: 3 of 10 are a recall of 0.3, whatever 0.1 * 3 is.
        reached = np.searchsorted(10 * hits, np.arange(11) * positives, side="left")
        ap_11 = float(np.append(envelope, 0.0)[reached].mean())
        ap = float(envelope[true].sum() / positives)
    return ClassResult(positives, detections, recall, precision, scores, ap_11, ap)


def _first_of_each(values: np.ndarray) -> np.ndarray:
    """Mask of the first occurrence of each value."""
    mask = np.zeros(len(values), dtype=bool)
    mask[np.unique(values, return_index=True)[1]] = True
    return mask


def _best_object(
    detections: Predictions, objects: GroundTruth, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """For each detection the object of its image and class that it overlaps most.

    Returns:
        int (D,) row of the object, -1 where there is none, and (D,) their intersection over union,
        -1 where there is none. Of equal overlaps the first object counts.
    """
    best = np.full(len(detections.image_index), -1, dtype=np.int64)
    overlap = np.full(len(detections.image_index), -1.0)
    object_key = objects.image_index.astype(np.int64) * num_classes + objects.label
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
        iou = _pairwise_iou(
            detections.boxes[np.repeat(part, count)].astype(np.float64),
            objects.boxes[pair_object].astype(np.float64),
        )
        largest = np.maximum.reduceat(iou, start)
        is_largest = np.flatnonzero(iou == np.repeat(largest, count))
        first_largest = is_largest[np.searchsorted(is_largest, start)]
        best[part], overlap[part] = pair_object[first_largest], largest
    return best, overlap


def _pairwise_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes row by row; 0 for boxes without area."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    common = np.prod(sides.clip(min=0), axis=1)
    area_a, area_b = (np.prod((x[:, 2:] - x[:, :2]).clip(min=0), axis=1) for x in (a, b))
    union = area_a + area_b - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)
