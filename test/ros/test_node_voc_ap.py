# SPDX-License-Identifier: Apache-2.0
"""The figure that a training reports is the figure of what the running node publishes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from graph import Graph
from played_camera import PlayedCamera, boxes_in, names_in, scores_in

from demo import dataset
from ssd_ros.backends.backend import BackendOptions
from ssd_ros.detector import Detector
from ssd_ros.io import image_files
from training.data import samples, voc
from training.evaluation import metrics, predictions
from training.evaluation.matching import Predictions


def published(
    graph: Graph,
    weights: str,
    precision: str,
    examples: Sequence[samples.Sample],
    classes: Sequence[str],
) -> Predictions:
    """What a running node answers to the images of a data set; image i is examples[i]."""
    limits = predictions.THRESHOLDS
    graph.start_detector(
        {
            "weights": weights,
            "device": "cpu",
            "precision": precision,
            "score_threshold": limits.score_threshold,
            "nms_iou_threshold": limits.nms_iou_threshold,
            "max_detections": limits.max_detections,
        }
    )
    camera = PlayedCamera(graph)
    image_index, label, boxes, scores = [], [], [], []
    for i, example in enumerate(examples):
        answer = camera.detect(image_files.read(example.record.image))
        label += [classes.index(name) for name in names_in(answer)]
        image_index += [i] * len(answer.detections)
        boxes.append(boxes_in(answer))
        scores += scores_in(answer)
    return Predictions(
        np.array(image_index, int), np.array(label, int), np.concatenate(boxes), np.array(scores)
    )


def map_of_both(
    graph: Graph, weights: str, precision: str, root: Path, image_sets: str
) -> tuple[dict[str, float], dict[str, float]]:
    """Figures of `training.evaluate` and of the running node."""
    options = BackendOptions(device="cpu", precision=precision)
    detector = Detector(weights, options, predictions.THRESHOLDS)
    examples, classes = samples.load(voc.find_images(root, image_sets), detector.classes)
    there = predictions.annotated(examples)
    found = predictions.detect(detector, examples, batch=1)  # as the node
    heard = published(graph, weights, precision, examples, classes)
    return metrics.compute_metrics(found, there, classes), metrics.compute_metrics(
        heard, there, classes
    )


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_evaluation_and_the_running_node_agree(graph, tmp_path, precision):
    arguments = [str(tmp_path / "set"), "--images", "1", "--held-out", "24", "--seed", "77"]
    assert dataset.main(arguments) == 0
    evaluated, heard = map_of_both(graph, "demo", precision, tmp_path / "set", "test")
    assert evaluated["map_voc2007"] > 0.6
    for key in ("map_voc2007", "map"):
        assert heard[key] == pytest.approx(evaluated[key], abs=1e-4)
