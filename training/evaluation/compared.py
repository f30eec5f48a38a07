# SPDX-License-Identifier: Apache-2.0
"""Two detectors side by side, for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.detector import Detector
from ssd_ros.model.layers import multiply_adds
from ssd_ros.weights.weights import Weights
from training.data.samples import Sample
from training.evaluation import gallery, metrics, predictions, speed


@dataclass(frozen=True)
class Pair:
    """Two networks with the same classes, before and after.

    Attributes:
        names: of their files, for people.
        networks: their weights.

    Raises:
        ValueError: they have different classes.
    """

    names: tuple[str, str]
    networks: tuple[Weights, Weights]

    def __post_init__(self) -> None:
        before, after = (weights.classes for weights in self.networks)
        if set(before) != set(after):
            raise ValueError(
                f"'{self.names[0]}' has the classes {', '.join(before)}, "
                f"'{self.names[1]}' has {', '.join(after)}"
            )


def section(pair: Pair, options: BackendOptions, samples: Sequence[Sample]) -> dict[str, Any]:
    """What the template shows of two networks.

    Args:
        pair: the networks.
        options: how they run.
        samples: the validation images, with the second's classes.

    Raises:
        ValueError: an image cannot be read.
    """
    networks, classes = pair.networks, pair.networks[1].classes
    ground_truth = predictions.annotated(samples)
    results, drawings = [], []
    for weights in networks:
        detector = Detector(weights, options, predictions.THRESHOLDS)
        found = predictions.detect(detector, samples)
        detector.close()
        label = np.array([classes.index(name) for name in weights.classes])[found.label]
        found = replace(found, label=label)
        results.append(metrics.compute_metrics(found, ground_truth, classes))
        drawings.append(gallery.Drawings(found, ground_truth, samples, classes))
    rows: list[tuple[Any, ...]] = [
        ("mAP (VOC2007)", *(result["map_voc2007"] for result in results))
    ]
    rows += [
        (f"AP {name}", *(result["classes"][name]["ap_voc2007"] for result in results))
        for name in classes
    ]
    before, after = costs(networks, options)
    rows += [
        ("network alone, ms an image", before.milliseconds, after.milliseconds),
        ("multiplications an image, 1e9", before.multiplications, after.multiplications),
        ("tensors, MB", before.megabytes, after.megabytes),
    ]
    return {
        "names": pair.names,
        "rows": rows,
        "images": gallery.differences(*drawings),
    }


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes:
        milliseconds: median time of the network alone on one image.
        multiplications: on one image, each with an addition, in 1e9.
        megabytes: of its tensors in float32.
    """

    milliseconds: float
    multiplications: float
    megabytes: float


def costs(networks: Sequence[Weights], options: BackendOptions) -> list[Cost]:
    """The costs of networks that run in the same way; the times are measured here."""
    times = speed.median_milliseconds([(weights, options) for weights in networks])
    return [
        Cost(
            milliseconds,
            multiply_adds(weights.config, len(weights.classes)) / 1e9,
            4e-6 * sum(int(np.prod(tensor.shape)) for tensor in weights.tensors.values()),
        )
        for weights, milliseconds in zip(networks, times, strict=True)
    ]
