# SPDX-License-Identifier: Apache-2.0
"""Compares the detections of the demo with its ground truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssd_ros.command_line import plural
from training.evaluation.matching import GroundTruth, Predictions, match_detections


@dataclass(frozen=True)
class LabelledBox:
    """A detection, or an annotated object. Box x1 y1 x2 y2 in pixels."""

    name: str
    box: tuple[float, ...]
    score: float = 1.0
    difficult: bool = False


Frames = Sequence[tuple[Sequence[LabelledBox], Sequence[LabelledBox]]]


def summary(frames: Frames, total: int) -> str:
    """Precision and recall in a line, and what they leave out.

    Args:
        frames: detections and objects of each frame that was answered.
        total: number of frames that there are.
    """
    true_positives, detections, objects = count_matches(frames)
    difficult = sum(box.difficult for _, boxes in frames for box in boxes)
    left_out = f"; {plural(difficult, 'difficult object')} not counted" if difficult else ""
    return (
        f"precision {true_positives / max(detections, 1):.2f}, "
        f"recall {true_positives / max(objects, 1):.2f} on {plural(objects, 'object')} in "
        f"{len(frames)} of {total} frames (IoU 0.5{left_out})"
    )


def count_matches(frames: Frames) -> tuple[int, int, int]:
    """Compares detections with the annotated objects, at an IoU of 0.5.

    Args:
        frames: detections and objects of each frame.

    Returns:
        True positives, counted detections, counted objects. Difficult objects, and detections of
        them, are not counted.
    """
    detections = [(i, box) for i, (boxes, _) in enumerate(frames) for box in boxes]
    objects = [(i, box) for i, (_, boxes) in enumerate(frames) for box in boxes]
    classes = sorted({box.name for _, box in detections + objects})
    ground_truth = GroundTruth(
        *_columns(objects, classes), np.array([box.difficult for _, box in objects], bool)
    )
    predictions = Predictions(
        *_columns(detections, classes), np.array([box.score for _, box in detections], float)
    )
    matches = match_detections(predictions, ground_truth, len(classes))
    counted = ~matches.ignored
    return (
        int(matches.true_positive.sum()),
        int(counted.sum()),
        int((~ground_truth.difficult).sum()),
    )


def _columns(
    rows: Sequence[tuple[int, LabelledBox]], classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image index, label and box of each row."""
    return (
        np.array([i for i, _ in rows], int),
        np.array([classes.index(box.name) for _, box in rows], int),
        np.array([box.box for _, box in rows], float).reshape(-1, 4),
    )


def read_ground_truth(file: Path) -> list[list[LabelledBox]]:
    """The annotated objects of each frame, in the order of the file names.

    Raises:
        ValueError, OSError: the file cannot be read.
    """
    try:
        frames = sorted(json.loads(file.read_text()), key=lambda frame: frame["file"])
        return [
            [
                LabelledBox(item["class"], tuple(item["box"]), difficult=item["difficult"])
                for item in frame["objects"]
            ]
            for frame in frames
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"'{file}' is not a ground-truth file of demo.camera: {error!r}") from None
