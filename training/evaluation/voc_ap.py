# SPDX-License-Identifier: Apache-2.0
"""PASCAL VOC average precision, by the rules of the official development kit.

`matching` decides what each detection is. Recall is over the objects that are not difficult.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluation.matching import GroundTruth, Predictions, match_detections


@dataclass(frozen=True)
class ClassResult:
    """Precision and recall of one class.

    Attributes:
        positives: objects that are not difficult.
        detections: detections of the class, those on difficult objects included.
        recall, precision, scores: (D,) after each counted detection, by descending score;
            detections on difficult objects are not among them.
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


def evaluate(
    detections: Predictions,
    ground_truth: GroundTruth,
    num_classes: int,
    iou_threshold: float = 0.5,
) -> list[ClassResult]:
    """The result of each class.

    Args:
        detections: of the same images.
        ground_truth: annotated objects.
        num_classes: number of classes without the background; labels are below it.
        iou_threshold: a detection hits an object at this intersection over union or more.

    Raises:
        ValueError: a label or image index is out of range.
    """
    matches = match_detections(detections, ground_truth, num_classes, iou_threshold)
    # By class, then descending score; stable, so that ties keep the order of the rows.
    order = np.lexsort((-detections.scores, detections.label))
    label, scores = detections.label[order], detections.scores[order]
    true_positive, ignored = matches.true_positive[order], matches.ignored[order]

    results = []
    starts = np.searchsorted(label, np.arange(num_classes + 1))
    positives = np.bincount(ground_truth.label[~ground_truth.difficult], minlength=num_classes)
    for k in range(num_classes):
        rows = slice(starts[k], starts[k + 1])
        counted = ~ignored[rows]
        results.append(
            _result(
                true_positive[rows][counted],
                scores[rows][counted],
                int(positives[k]),
                int(starts[k + 1] - starts[k]),
            )
        )
    return results


def mean(values: Sequence[float]) -> float:
    """Mean over the classes that have an average precision; NaN where none has."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _result(
    true_positive: np.ndarray, scores: np.ndarray, positives: int, detections: int
) -> ClassResult:
    hits = np.cumsum(true_positive)
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
        ap = float(envelope[true_positive].sum() / positives)
    return ClassResult(positives, detections, recall, precision, scores, ap_11, ap)
