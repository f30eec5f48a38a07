# SPDX-License-Identifier: Apache-2.0
"""Weights are judged on the images as the detector sees them."""

import json

import numpy as np
import pytest
import torch
from made_dataset import make_set

from ssd_ros.detections import Detections
from ssd_ros.model.config import PAPER_VOC
from ssd_ros.model.ssd import SSD300
from ssd_ros.weights.native import write
from ssd_ros.weights.weights import Weights
from training import evaluate
from training.data import batches, voc
from training.evaluation import voc_ap


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("data") / "set", images=10)


@pytest.fixture(scope="module")
def examples(root):
    return batches.load(voc.find_items(root, "test"))[0]


class Oracle:
    """Stands for a detector that knows the annotations, and can be told to err."""

    def __init__(self, examples, miss=0):
        self._answers = iter(examples)
        self._miss = miss

    def __call__(self, images):
        answers = [next(self._answers) for _ in images]
        return [
            Detections(a.boxes + self._miss, np.ones(len(a.boxes), np.float32), a.labels)
            for a in answers
        ]


def test_perfect_detections_have_perfect_figures(examples):
    found = evaluate.detect(Oracle(examples), examples, batch=2)
    there = evaluate.objects(examples)
    result = evaluate.figures(found, there, ["disc", "square"])
    assert result["map_voc2007"] == result["map"] == 1.0
    assert result["classes"]["disc"] == {
        "ap_voc2007": 1.0,
        "ap": 1.0,
        "objects": 5,
        "detections": 5,
    }


def test_coco_s_range_asks_for_more_than_voc(examples):
    pytest.importorskip("faster_coco_eval")
    there, sizes = evaluate.objects(examples), batches.sizes(examples)
    assert sizes == [(120, 90)] * 5
    perfect = evaluate.detect(Oracle(examples), examples)
    coco = evaluate.coco_figures(perfect, there, sizes, ["disc", "square"])
    assert coco == pytest.approx({"map": 1.0, "map_50": 1.0, "map_75": 1.0})
    shifted = evaluate.detect(Oracle(examples, miss=3), examples)
    coco = evaluate.coco_figures(shifted, there, sizes, ["disc", "square"])
    assert coco["map_50"] == 1.0
    assert 0.2 < coco["map"] < 0.8


def test_coco_s_precision_at_one_half_is_near_voc_s_all_point_one():
    """101 points instead of all, and matches by score instead of overlap: close, not equal."""
    pytest.importorskip("faster_coco_eval")
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 60, (400, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(8, 30, (400, 2))), axis=1)
    image_index, label = np.repeat(np.arange(100), 4), rng.integers(0, 2, 400)
    there = voc_ap.GroundTruth(image_index, label, boxes, rng.random(400) < 0.1)
    near = boxes + rng.normal(0, 2.5, boxes.shape)
    found = voc_ap.Predictions(image_index, label, near, rng.random(400))
    coco = evaluate.coco_figures(found, there, [(100, 100)] * 100, ["a", "b"])
    result = evaluate.figures(found, there, ["a", "b"])
    assert coco["map_50"] == pytest.approx(result["map"], abs=0.02)


def test_the_command_writes_its_figures(root, tmp_path, capsys):
    torch.manual_seed(0)
    state = dict(SSD300(2, 0.0625).state_dict())
    file = tmp_path / "weights.safetensors"
    write(file, Weights(state, ("disc", "square"), PAPER_VOC.with_width(0.0625)))
    target = tmp_path / "figures.json"
    arguments = [str(file), "--data", str(root), "--device", "cpu", "--json", str(target)]
    assert evaluate.main(arguments) == 0
    result = json.loads(target.read_text())
    assert result["images"] == 5
    assert result["precision"] == "fp32"
    assert 0 <= result["map_voc2007"] <= 1
    assert set(result["classes"]) == {"disc", "square"}
    assert "mean" in capsys.readouterr().out


def test_weights_of_other_classes_are_refused(root, tmp_path, capsys):
    state = dict(SSD300(1, 0.0625).state_dict())
    file = tmp_path / "weights.safetensors"
    write(file, Weights(state, ("disc",), PAPER_VOC.with_width(0.0625)))
    assert evaluate.main([str(file), "--data", str(root), "--device", "cpu"]) == 1
    assert "has the class 'square', expected one of disc" in capsys.readouterr().err
