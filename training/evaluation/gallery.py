# SPDX-License-Identifier: Apache-2.0
"""The best and the worst images of a validation set, with detections and missed objects drawn."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ssd_ros import drawing
from ssd_ros.io import image_files
from training.data.samples import Sample
from training.evaluation.matching import GroundTruth, Matches, Predictions, match_detections

MIN_SCORE = 0.5  # the node's default score_threshold
SHOWN = 6  # best and worst images each
_SIDE = 480  # pixels of the longer side of an image on the page
_TRUE, _FALSE, _MISSED = (60, 160, 30), (40, 40, 220), (0, 190, 255)  # BGR


@dataclass(frozen=True)
class Counts:
    """What was detected in each image.

    Attributes:
        true_positives, false_positives, missed: int (images,).
    """

    true_positives: np.ndarray
    false_positives: np.ndarray
    missed: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """float (images,), 0 to 1; 1 for images with neither objects nor detections."""
        total = 2 * self.true_positives + self.false_positives + self.missed
        return np.divide(2 * self.true_positives, total, out=np.ones(len(total)), where=total > 0)

    @property
    def order(self) -> np.ndarray:
        """int (images,), indices by descending F1; of equal ones the fuller images first."""
        total = 2 * self.true_positives + self.false_positives + self.missed
        return np.lexsort((-total, -self.f1))


@dataclass(frozen=True)
class Figure:
    """An image of the page: a data URI and a caption."""

    source: str
    caption: str


class Drawings:
    """A detector's answers to a validation set, to be drawn image by image.

    Of the detections only those with a score of `MIN_SCORE` or more are shown and counted.

    Args:
        detections, ground_truth: image i is samples[i].
        samples: the images.
        classes: class names.
    """

    def __init__(
        self,
        detections: Predictions,
        ground_truth: GroundTruth,
        samples: Sequence[Sample],
        classes: Sequence[str],
    ) -> None:
        kept = detections.scores >= MIN_SCORE
        self._detections = Predictions(
            detections.image_index[kept],
            detections.label[kept],
            detections.boxes[kept],
            detections.scores[kept],
        )
        self._ground_truth, self._samples, self._classes = ground_truth, samples, classes
        self._matches = match_detections(self._detections, ground_truth, len(classes))
        self.counts = count(self._detections, ground_truth, self._matches, len(samples))

    def figure(self, i: int, title: str = "") -> Figure:
        """Image i with its detections and missed objects.

        Raises:
            ValueError: the image cannot be read.
        """
        image = image_files.read(self._samples[i].record.image)
        missed = missed_objects(self._ground_truth, self._matches)
        boxes = _boxes(
            i, self._detections, self._ground_truth, self._matches, missed, self._classes
        )
        counts = self.counts
        caption = (
            f"{title}{self._samples[i].record.image.name}: "
            f"{counts.true_positives[i]} true positive, "
            f"{counts.false_positives[i]} false positive, {counts.missed[i]} missed"
        )
        return Figure(data_uri(draw(image, boxes)), caption)


def galleries(drawings: Drawings) -> list[tuple[str, list[Figure]]]:
    """Titles and images, by F1; all images where there are at most 2 * `SHOWN`.

    Raises:
        ValueError: an image cannot be read.
    """
    order = drawings.counts.order.tolist()
    if len(order) <= 2 * SHOWN:
        return [("Images by F1", [drawings.figure(i) for i in order])]
    return [
        ("Best images by F1", [drawings.figure(i) for i in order[:SHOWN]]),
        ("Worst images by F1", [drawings.figure(i) for i in order[: -SHOWN - 1 : -1]]),
    ]


def differences(before: Drawings, after: Drawings) -> list[Figure]:
    """The images in which two detectors' F1 differ most, in pairs.

    Raises:
        ValueError: an image cannot be read.
    """
    change = np.abs(after.counts.f1 - before.counts.f1)
    order = [i for i in np.argsort(-change, kind="stable")[:SHOWN].tolist() if change[i] > 0]
    return [
        figure
        for i in order
        for figure in (before.figure(i, "before, "), after.figure(i, "after, "))
    ]


def missed_objects(ground_truth: GroundTruth, matches: Matches) -> np.ndarray:
    """bool (N,), the objects without a true positive, difficult ones excluded."""
    missed = ~ground_truth.difficult
    missed[matches.target[matches.true_positive]] = False
    return missed


def count(
    detections: Predictions, ground_truth: GroundTruth, matches: Matches, images: int
) -> Counts:
    """Counts detections and missed objects of each image."""

    def per_image(image_index: np.ndarray) -> np.ndarray:
        return np.bincount(image_index, minlength=images)

    return Counts(
        per_image(detections.image_index[matches.true_positive]),
        per_image(detections.image_index[~matches.true_positive & ~matches.ignored]),
        per_image(ground_truth.image_index[missed_objects(ground_truth, matches)]),
    )


Drawn = tuple[np.ndarray, str, tuple[int, int, int]]  # box, text, colour


def _boxes(
    image: int,
    detections: Predictions,
    ground_truth: GroundTruth,
    matches: Matches,
    missed: np.ndarray,
    classes: Sequence[str],
) -> list[Drawn]:
    boxes: list[Drawn] = []
    for row in np.flatnonzero(missed & (ground_truth.image_index == image)).tolist():
        boxes.append((ground_truth.boxes[row], classes[ground_truth.label[row]], _MISSED))
    for row in np.flatnonzero((detections.image_index == image) & ~matches.ignored).tolist():
        text = drawing.caption(classes[detections.label[row]], detections.scores[row])
        colour = _TRUE if matches.true_positive[row] else _FALSE
        boxes.append((detections.boxes[row], text, colour))
    return boxes


def draw(image: np.ndarray, boxes: Iterable[Drawn], side: int = _SIDE) -> np.ndarray:
    """A reduced copy of a BGR image, at most `side` pixels long, with boxes in its own pixels."""
    scale = min(1.0, side / max(image.shape[:2]))
    canvas = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for box, text, colour in boxes:
        drawing.outline(canvas, box * scale, text, colour)
    return canvas


def data_uri(image: np.ndarray) -> str:
    """A BGR image as a JPEG inside of a page."""
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert done, "OpenCV always has JPEG"
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
