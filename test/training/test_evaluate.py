# SPDX-License-Identifier: Apache-2.0
"""Weights are evaluated on the images as the detector sees them."""

import json

import numpy as np
import pytest
import torch
from made_dataset import make_set

from ssd_ros.detections import Detections
from ssd_ros.model.config import PAPER_VOC
from ssd_ros.model.ssd import SSD
from ssd_ros.weights.native import write
from ssd_ros.weights.weights import Weights
from training import evaluate
from training.data import samples, voc
from training.evaluation import gallery, metrics, predictions
from training.evaluation.matching import GroundTruth, Predictions, match_detections


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("data") / "set", images=10)


@pytest.fixture(scope="module")
def test_set(root):
    return samples.load(voc.find_images(root, "test"))[0]


class Oracle:
    """Stands for a detector that knows the annotations, and can be told to err."""

    def __init__(self, test_set, miss=0):
        self._answers = iter(test_set)
        self._miss = miss

    def __call__(self, images):
        answers = [next(self._answers) for _ in images]
        return [
            Detections(a.boxes + self._miss, np.ones(len(a.boxes), np.float32), a.labels)
            for a in answers
        ]


def test_perfect_detections_have_perfect_metrics(test_set):
    detections = predictions.detect(Oracle(test_set), test_set, batch=2)
    ground_truth = predictions.annotated(test_set)
    result = metrics.compute_metrics(detections, ground_truth, ["disc", "square"])
    assert result["map_voc2007"] == result["map"] == 1.0
    assert result["classes"]["disc"] == {
        "ap_voc2007": 1.0,
        "ap": 1.0,
        "objects": 5,
        "detections": 5,
    }


def test_coco_s_range_asks_for_more_than_voc(test_set):
    pytest.importorskip("faster_coco_eval")
    ground_truth, sizes = predictions.annotated(test_set), [s.size for s in test_set]
    assert sizes == [(120, 90)] * 5
    perfect = predictions.detect(Oracle(test_set), test_set)
    coco = metrics.coco_metrics(perfect, ground_truth, sizes, ["disc", "square"])
    assert coco == pytest.approx({"map": 1.0, "map_50": 1.0, "map_75": 1.0})
    shifted = predictions.detect(Oracle(test_set, miss=3), test_set)
    coco = metrics.coco_metrics(shifted, ground_truth, sizes, ["disc", "square"])
    assert coco["map_50"] == 1.0
    assert 0.2 < coco["map"] < 0.8


def test_coco_s_precision_at_one_half_is_near_voc_s_all_point_one():
    """101 points instead of all, and matches by score instead of overlap: close, not equal."""
    pytest.importorskip("faster_coco_eval")
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 60, (400, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(8, 30, (400, 2))), axis=1)
    image_index, label = np.repeat(np.arange(100), 4), rng.integers(0, 2, 400)
    ground_truth = GroundTruth(image_index, label, boxes, rng.random(400) < 0.1)
    near = boxes + rng.normal(0, 2.5, boxes.shape)
    detections = Predictions(image_index, label, near, rng.random(400))
    coco = metrics.coco_metrics(detections, ground_truth, [(100, 100)] * 100, ["a", "b"])
    result = metrics.compute_metrics(detections, ground_truth, ["a", "b"])
    assert coco["map_50"] == pytest.approx(result["map"], abs=0.02)


def test_the_report_counts_each_image_and_sorts_by_f1():
    here, beside, far = (0, 0, 10, 10), (1, 0, 11, 10), (50, 50, 60, 60)
    boxes = np.array([here, (20, 20, 30, 30), here, here], float)
    difficult = np.array([False, False, False, True])
    ground_truth = GroundTruth(np.array([0, 0, 1, 2]), np.zeros(4, int), boxes, difficult)
    boxes = np.array([beside, here, far, beside], float)
    scores = np.array([0.9, 0.8, 0.7, 0.9])
    detections = Predictions(np.array([0, 0, 0, 2]), np.zeros(4, int), boxes, scores)
    matches = match_detections(detections, ground_truth, 1)
    counts = gallery.count(detections, ground_truth, matches, 4)
    assert counts.true_positives.tolist() == [1, 0, 0, 0]
    assert counts.false_positives.tolist() == [2, 0, 0, 0]
    assert counts.missed.tolist() == [1, 1, 0, 0]
    assert counts.f1.tolist() == [0.4, 0, 1, 1]
    assert counts.order.tolist() == [2, 3, 0, 1]


def test_the_command_writes_its_metrics(root, tmp_path, capsys):
    torch.manual_seed(0)
    state = dict(SSD(2, 0.0625).state_dict())
    file = tmp_path / "weights.safetensors"
    write(file, Weights(state, ("disc", "square"), PAPER_VOC.with_width(0.0625)))
    target = tmp_path / "metrics.json"
    arguments = [str(file), "--data", str(root), "--device", "cpu", "--json", str(target)]
    assert evaluate.main(arguments) == 0
    result = json.loads(target.read_text())
    assert result["images"] == 5
    assert result["precision"] == "fp32"
    assert 0 <= result["map_voc2007"] <= 1
    assert set(result["classes"]) == {"disc", "square"}
    assert "mean" in capsys.readouterr().out
    assert evaluate.main([*arguments[:-1], "-"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["images"] == 5
    assert "mean" in printed.err


def test_weights_of_other_classes_are_refused(root, tmp_path, capsys):
    state = dict(SSD(1, 0.0625).state_dict())
    file = tmp_path / "weights.safetensors"
    write(file, Weights(state, ("disc",), PAPER_VOC.with_width(0.0625)))
    assert evaluate.main([str(file), "--data", str(root), "--device", "cpu"]) == 1
    assert "has the class 'square', expected one of disc" in capsys.readouterr().err
