# SPDX-License-Identifier: Apache-2.0
"""mAP and speed of weights as they run on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.create import create
from ssd_ros.detector import Detector
from ssd_ros.weights.weights import Weights
from training.data.samples import Sample
from training.evaluation import metrics, predictions

TIMED_RUNS = 9


class UndefinedError(ValueError):
    """No object counts, so that there is no mAP."""


def mean_ap(samples: Sequence[Sample], options: BackendOptions, weights: Weights) -> float:
    """The mAP (VOC2007) that `training.evaluate` prints.

    Raises:
        UndefinedError: no object counts.
        ValueError: an image cannot be read.
    """
    detector = Detector(weights, options, predictions.THRESHOLDS)
    detections = predictions.detect(detector, samples)
    detector.close()
    ground_truth = predictions.annotated(samples)
    score = metrics.compute_metrics(detections, ground_truth, weights.classes)["map_voc2007"]
    if score is None:
        raise UndefinedError("the validation images have no object that is not difficult")
    return float(score)


def median_milliseconds(networks: Sequence[tuple[Weights, BackendOptions]]) -> list[float]:
    """Median time of each network on a black image, without post-processing; they take turns.

    Args:
        networks: weights, and how they run.
    """
    backends = [create(weights, options) for weights, options in networks]
    sides = [weights.config.input_size for weights, _ in networks]
    images = [np.zeros((1, side, side, 3), np.uint8) for side in sides]
    seconds = np.empty((TIMED_RUNS, len(backends)))
    for run in range(-1, TIMED_RUNS):  # the first is a warm-up, and overwritten
        for k, (backend, image) in enumerate(zip(backends, images, strict=True)):
            start = time.perf_counter()
            backend.infer(image)
            seconds[run, k] = time.perf_counter() - start
    for backend in backends:
        backend.close()
    return [float(median) for median in 1000 * np.median(seconds, axis=0)]
