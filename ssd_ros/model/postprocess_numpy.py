# SPDX-License-Identifier: Apache-2.0
"""From the network's outputs to detections on the CPU, without PyTorch.

The detections are those of `postprocess`, in the same order. Most of the time would go into
candidates that cannot be detections, so they are dropped by the cheapest test that is safe: a
comparison of logits before any softmax, and an end as soon as there are `max_detections`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from ssd_ros.detections import Thresholds
from ssd_ros.model.boxes import iou
from ssd_ros.model.config import MAX_LOG_GROWTH, SSDConfig
from ssd_ros.model.default_boxes import default_boxes

if TYPE_CHECKING:
    from torch import Tensor

# Candidates whose overlaps are computed at once: at first few, as suppressed ones cost nothing
# later; then twice as many each time, up to a limit of the memory (some 10 MB).
_FIRST_CHUNK, _LARGEST_CHUNK = 96, 256


class _Candidates(NamedTuple):
    """Scores above the threshold in one image: parallel arrays (D,)."""

    box: np.ndarray  # index of the default box
    label: np.ndarray
    score: np.ndarray

    def take(self, rows: np.ndarray) -> _Candidates:
        return _Candidates(*(column[rows] for column in self))


class Postprocessor:
    """The steps of `ssd_ros.model.postprocess`, one image after the other.

    Args:
        config: default boxes and variances.
        thresholds: scores, overlaps and counts.
        class_mask: bool (C,), the classes to report; None for all.
    """

    def __init__(
        self, config: SSDConfig, thresholds: Thresholds, class_mask: np.ndarray | None = None
    ) -> None:
        self._thresholds, self._variances = thresholds, config.variances
        self._defaults, self._nms = default_boxes(config), config.nms
        self._dropped = None if class_mask is None else ~class_mask

    def __call__(self, logits: np.ndarray | Tensor, offsets: np.ndarray | Tensor) -> np.ndarray:
        """Detections of a batch.

        Args:
            logits: (B, N, 1 + C) finite class scores before the softmax, background first; an
                array, or a tensor on the CPU, which is not copied if it is float32.
            offsets: (B, N, 4) offsets from the default boxes.

        Returns:
            float32 (D, 7), the rows of `ssd_ros.model.postprocess.postprocess`.
        """
        rows = [np.empty((0, 7), np.float32)]
        for i, outputs in enumerate(zip(_array(logits), _array(offsets), strict=True)):
            found, corners = self._image(*outputs)
            columns = np.empty((len(corners), 7), np.float32)
            columns[:, 0], columns[:, 1], columns[:, 2] = i, found.label, found.score
            columns[:, 3:] = corners
            rows.append(columns)
        return np.concatenate(rows)

    def _image(self, logits: np.ndarray, offsets: np.ndarray) -> tuple[_Candidates, np.ndarray]:
        """Detections of one image by descending score, and their corners (D, 4)."""
        thresholds = self._thresholds
        rows = rows_that_may_pass(logits, thresholds.score_threshold)
        scores = class_scores(logits[rows])
        if self._dropped is not None:
            scores[self._dropped] = 0
        best = best_candidates(scores, rows, thresholds)
        corners = decode(offsets[best.box], self._defaults[best.box], self._variances)
        if self._nms == "after_clipping":
            best, corners = _visible(best, corners)
        kept = suppress(
            corners, best.label, thresholds.nms_iou_threshold, thresholds.max_detections
        )
        return _visible(best.take(kept), corners[kept])


def _visible(boxes: _Candidates, corners: np.ndarray) -> tuple[_Candidates, np.ndarray]:
    """The boxes that lie in the image at least in part, and those parts."""
    corners = corners.clip(0, 1)
    visible = (corners[:, 2:] > corners[:, :2]).all(axis=1).nonzero()[0]
    return boxes.take(visible), corners[visible]


def _array(output: np.ndarray | Tensor) -> np.ndarray:
    if not isinstance(output, np.ndarray):
        output = output.float().numpy()  # NumPy has no bfloat16
    return np.ascontiguousarray(output, np.float32)


def rows_that_may_pass(logits: np.ndarray, score_threshold: float) -> np.ndarray:
    """Indices of the rows of logits (N, 1 + C) in which a class may score above the threshold.

    Two of a row's probabilities add up to at most 1. So p > t for a class means that its odds
    against the background are above t / (1 - t), and its logit above the background's by the
    logarithm of that.
    """
    if score_threshold >= 1:
        return np.empty(0, np.int64)
    odds = score_threshold / (1 - score_threshold)
    # OpenCV transposes several times faster than NumPy, and the maximum along the first axis is
    # several times faster than along rows of some tens of classes.
    columns = cv2.transpose(logits)
    background = columns[0]
    # Below the exact bound by more than the rounding of the softmax and of this sum.
    margin = 1e-3 + 1e-6 * np.abs(background)
    bound = background + ((math.log(odds) if odds > 0 else -math.inf) - margin)
    return np.flatnonzero(columns[1:].max(axis=0) > bound)


def class_scores(logits: np.ndarray) -> np.ndarray:
    """Softmax without the background: logits (R, 1 + C) to float32 scores (C, R)."""
    if not len(logits):
        return np.empty((logits.shape[1] - 1, 0), np.float32)
    scores = cv2.transpose(logits)
    scores -= scores.max(axis=0)
    cv2.exp(scores, scores)  # as exact as NumPy's, and several times faster
    scores /= scores.sum(axis=0)
    return scores[1:]


def best_candidates(scores: np.ndarray, rows: np.ndarray, thresholds: Thresholds) -> _Candidates:
    """Scores above the threshold, of each class the best `top_k`, by descending score.

    Equal scores are in the order of default boxes, then of classes.

    Args:
        scores: (C, R).
        rows: (R,) the default boxes of the columns, ascending.
        thresholds: scores and counts.
    """
    if not len(rows):
        return _Candidates(rows, rows, np.empty(0, np.float32))
    passed, top_k = scores > thresholds.score_threshold, thresholds.top_k
    for many in np.flatnonzero(np.count_nonzero(passed, axis=1) > top_k):
        column, chosen = scores[many], passed[many]
        limit = np.partition(column, -top_k)[-top_k]
        np.greater(column, limit, out=chosen)
        ties = np.flatnonzero(column == limit)
        chosen[ties[: top_k - np.count_nonzero(chosen)]] = True
    # By default boxes first, which the stable sort keeps among equal scores.
    by_row = cv2.transpose(passed.view(np.uint8)).view(bool)
    index = np.flatnonzero(by_row)  # of a flat bool array it is ten times faster than nonzero
    row, label = index // len(scores), index % len(scores)
    score = scores[label, row]
    return _Candidates(rows[row], label, score).take(np.argsort(-score, kind="stable"))


def decode(offsets: np.ndarray, defaults: np.ndarray, variances: tuple[float, ...]) -> np.ndarray:
    """`ssd_ros.model.box_coding.decode` for arrays: corners (D, 4) as fractions."""
    centre = defaults[:, :2] + offsets[:, :2] * variances[0] * defaults[:, 2:]
    growth = np.exp(np.minimum(offsets[:, 2:] * variances[1], MAX_LOG_GROWTH))
    half = 0.5 * defaults[:, 2:] * growth
    return np.concatenate((centre - half, centre + half), axis=1)


def suppress(
    corners: np.ndarray, labels: np.ndarray, iou_threshold: float, count: int
) -> np.ndarray:
    """Non-maximum suppression within each class: indices of the first `count` boxes that stay.

    A box is suppressed by a better one of its class that stays and overlaps it by more than the
    threshold. In double precision, as torchvision computes it.

    Args:
        corners: (D, 4) by descending score, of positive width and height.
        labels: (D,).
        iou_threshold: the IoU above which the worse box is dropped, 0 to 1.
        count: at least 1.
    """
    kept = np.empty(0, np.int64)
    start, size = 0, _FIRST_CHUNK
    while start < len(labels) and len(kept) < count:
        rows = np.append(kept, np.arange(start, min(start + size, len(labels))))
        start, size = start + size, min(2 * size, _LARGEST_CHUNK)
        better, worse = _pairs(labels[rows], len(kept))
        overlap = _overlap(corners[rows], better, worse, iou_threshold)
        kept = rows[_survivors(better[overlap], worse[overlap], len(rows))]
    return kept[:count]


def _pairs(labels: np.ndarray, settled: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of rows of one class: the better rows, which come first, and the worse ones.

    Args:
        labels: (R,).
        settled: number of first rows that are not paired with each other.
    """
    by_class = np.argsort(labels, kind="stable")
    ordered = labels[by_class]
    place = np.arange(len(labels))
    first = np.searchsorted(ordered, ordered)  # place of the first row of the same class
    counts = np.where(by_class < settled, 0, place - first)
    ends = np.cumsum(counts)
    worse = np.repeat(place, counts)
    better = np.arange(len(worse)) - np.repeat(ends - counts - first, counts)
    return by_class[better], by_class[worse]


def _overlap(
    corners: np.ndarray, better: np.ndarray, worse: np.ndarray, iou_threshold: float
) -> np.ndarray:
    """Indices of the pairs of rows whose IoU is above the threshold."""
    # Comparisons in single precision are exact, and leave few pairs.
    x1, y1, x2, y2 = np.ascontiguousarray(corners.T)
    near = x1[better] < x2[worse]
    near &= x1[worse] < x2[better]
    near &= y1[better] < y2[worse]
    near &= y1[worse] < y2[better]
    index = np.flatnonzero(near)
    return index[iou(corners[better[index]], corners[worse[index]]) > iou_threshold]


def _survivors(better: np.ndarray, worse: np.ndarray, count: int) -> np.ndarray:
    """Mask of the boxes that no staying box suppresses, from all pairs that overlap too much.

    The best box of each class stays, and a box is settled one round after all better ones.
    """
    stays = np.ones(count, bool)
    while True:
        after = np.ones(count, bool)
        after[worse[stays[better]]] = False
        if np.array_equal(after, stays):
            return stays
        stays = after
