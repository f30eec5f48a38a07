# SPDX-License-Identifier: Apache-2.0
"""A dataset's annotations, and a detector's answers to its images, as tables to be matched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from ssd_ros.detections import Thresholds
from ssd_ros.detector import Detector
from ssd_ros.image import Image
from ssd_ros.io import image_files
from training.data.samples import Sample
from training.evaluation.matching import GroundTruth, Predictions

# The paper's for VOC (section 3.1): a low threshold, and up to two hundred detections per image.
THRESHOLDS = Thresholds(score_threshold=0.01, nms_iou_threshold=0.45, max_detections=200, top_k=400)


def annotated(samples: Sequence[Sample]) -> GroundTruth:
    """The annotated objects of a dataset; image i is samples[i]."""
    return GroundTruth(
        np.repeat(np.arange(len(samples)), [len(s.labels) for s in samples]),
        np.concatenate([s.labels for s in samples]),
        np.concatenate([s.boxes for s in samples]),
        np.concatenate([s.difficult for s in samples]),
    )


def detect(detector: Detector, samples: Sequence[Sample], batch: int = 8) -> Predictions:
    """A detector's detections in the images of a dataset; image i is samples[i].

    Args:
        detector: its thresholds should be `THRESHOLDS`.
        samples: the images, at least one.
        batch: images per call of the detector.

    Raises:
        ValueError: an image cannot be read.
    """
    image_index, label, boxes, scores = [], [], [], []
    starts = range(0, len(samples), batch)
    for start in tqdm(starts, desc="detect", unit="batch", disable=None, leave=False):
        part = samples[start : start + batch]
        images = [Image(image_files.read(sample.record.image)) for sample in part]
        for i, detections in enumerate(detector(images), start=start):
            image_index.append(np.full(len(detections), i))
            label.append(detections.labels)
            boxes.append(detections.boxes)
            scores.append(detections.scores)
    return Predictions(*map(np.concatenate, (image_index, label, boxes, scores)))
