# SPDX-License-Identifier: Apache-2.0
"""Weights are quantised on the images of a dataset, and written only if they keep their mAP."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_dataset import make_set
from made_weights import quantised

from ssd_ros import atomic
from ssd_ros.backends.backend import BackendOptions
from ssd_ros.detector import network_input
from ssd_ros.image import Image
from ssd_ros.io import image_files
from ssd_ros.model.config import PAPER_VOC, RESNET50
from ssd_ros.model.layers import activations
from ssd_ros.model.ssd import SSD
from ssd_ros.weights.native import to_bytes, write
from ssd_ros.weights.reader import read
from ssd_ros.weights.weights import Weights
from training import evaluate, quantize
from training.data import voc
from training.quantisation import search

pytest.importorskip("nncf", reason="needs requirements-training.txt")
pytestmark = pytest.mark.training

INT8 = BackendOptions("openvino", "cpu", "int8")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("data") / "set", images=10)


@pytest.fixture(scope="module")
def weights() -> Weights:
    torch.manual_seed(0)
    model = SSD(2, 0.0625)
    return Weights(model.state_dict(), ("disc", "square"), model.config, {"iterations": 3})


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    write(path, weights)
    return path


def test_the_results_of_residual_blocks_have_ranges(root):
    torch.manual_seed(0)
    model = SSD(2, 0.0625, RESNET50)
    weights = Weights(model.state_dict(), ("disc", "square"), model.config)
    files = sorted((root / "JPEGImages").iterdir())[:2]
    images = network_input([Image(image_files.read(file)) for file in files])
    measured = quantize._measure(weights, files)
    assert set(measured.ranges) == set(activations(model.config))
    expected = quantised(weights, images).quantisation
    assert expected is not None
    for name, bounds in expected.ranges.items():
        assert measured.ranges[name] == pytest.approx(bounds, rel=0.02), name


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, 300, 300, 3), dtype=np.uint8)


def test_the_file_runs_in_int8_and_has_the_map_that_was_printed(file, root, capsys, tmp_path):
    assert quantize.main([str(file), "--data", str(root), "--max-drop", "1", "--images", "3"]) == 0
    printed = capsys.readouterr().out
    written = file.with_name("w_int8.safetensors")
    assert f"wrote {written}" in printed
    result, original = read(written), read(file)
    assert all(np.array_equal(result.tensors[key], original.tensors[key]) for key in result.tensors)
    assert result.quantisation is not None
    assert set(result.quantisation.ranges) == set(activations(result.config))
    assert result.quantisation.kept == frozenset()
    record = result.training["quantisation"]
    assert result.training["iterations"] == 3
    assert (record["images"], record["sets"], record["kept"]) == (3, "trainval", [])

    metrics = tmp_path / "metrics.json"
    evaluate.main([str(written), "--data", str(root), "--device", "cpu", "--json", str(metrics)])
    evaluated = json.loads(metrics.read_text())
    assert evaluated["precision"] == "int8"
    assert evaluated["map_voc2007"] == record["map_voc2007"]["int8"]
    assert f"int8: mAP {evaluated['map_voc2007']:.4f}" in printed


def test_ranges_are_those_of_the_images(weights, root):
    from training.quantisation import ranges

    files = sorted((root / "JPEGImages").iterdir())[:3]
    measured = ranges.measure(weights, files)
    pixels = network_input([Image(image_files.read(file)) for file in files])
    expected = quantised(weights, pixels).quantisation
    assert expected is not None
    for name, bounds in expected.ranges.items():
        assert measured.ranges[name] == pytest.approx(bounds, rel=1e-4)


def test_the_same_seed_chooses_the_same_images(root):
    records = voc.find_images(root, "trainval")
    assert len(set(voc.choose_images(records, 4, seed=0))) == 4
    assert voc.choose_images(records, 4, seed=0) == voc.choose_images(records, 4, seed=0)
    assert voc.choose_images(records, 4, seed=0) != voc.choose_images(records, 4, seed=1)
    assert len(voc.choose_images(records, 1000, seed=0)) == len(records)


def test_the_convolutions_with_the_largest_error_are_kept_until_the_map_is_reached(images):
    torch.manual_seed(0)
    channels = tuple(tuple(8 for _ in stage) for stage in PAPER_VOC.channels[:7])
    config = replace(PAPER_VOC, feature_maps=PAPER_VOC.feature_maps[:2], channels=channels)
    model = SSD(1, config=config)
    ranges = quantised(Weights(model.state_dict(), ("cup",), config), images)
    assert ranges.quantisation is not None
    # What is clipped far below its largest value hurts most: what reads conv2.1 is conv2.2.
    low = {**ranges.quantisation.ranges, "conv2.1": (0.0, 1e-3)}
    bad = replace(ranges, quantisation=replace(ranges.quantisation, ranges=low))
    evaluated = []

    def mean_ap(candidate: Weights) -> float:
        evaluated.append(sorted(candidate.quantisation.kept))
        return 0.5 + 0.1 * len(candidate.quantisation.kept)

    found = search.find(bad, mean_ap, 0.89, images, INT8)
    assert (len(found.weights.quantisation.kept), found.score) == (4, 0.9)
    assert [len(kept) for kept in evaluated] == [0, 1, 2, 4]
    assert evaluated[1] == ["conv2.2"]
    assert found.evaluations == 4
    with pytest.raises(ValueError, match=r"0\.5\d* with 16 of 19 convolutions.*at least 0.6000"):
        search.find(bad, lambda _: 0.5, 0.6, images, INT8)


def test_nothing_is_written_where_the_file_computes_something_else(weights, images, tmp_path):
    good = quantised(weights, images)
    assert good.quantisation is not None
    other = replace(good, quantisation=replace(good.quantisation, kept=frozenset({"conv1.1"})))
    target, data = tmp_path / "w.safetensors", to_bytes(good)
    with pytest.raises(ValueError, match="does not compute what was written"):
        atomic.write(target, data, lambda file: quantize.check_file(other, INT8, images, file))
    assert list(tmp_path.iterdir()) == []
    atomic.write(target, data, lambda file: quantize.check_file(good, INT8, images, file))
    assert read(target).quantisation == good.quantisation


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{file}", "--data", "{root}/none"], "none"),
        (["{file}", "--data", "{root}", "--sets", "train"], "image set .*train.txt' not found"),
        (["{file}", "--data", "{root}", "--val-sets", "val"], "image set .*val.txt' not found"),
        (["{root}/none.safetensors", "--data", "{root}"], "none.safetensors"),
        (["{other}", "--data", "{root}"], "has the class 'square', expected one of disc"),
        (["{file}", "--data", "{root}", "--images", "0"], "at least 1 .* got 0"),
        (["{file}", "--data", "{root}", "--max-drop", "5"], r"from 0 to 1, got 300 and 5\.0"),
    ],
)
def test_errors_name_what_is_wrong_and_write_nothing(
    arguments, message, file, root, tmp_path, capsys
):
    other = tmp_path / "other.safetensors"
    model = SSD(1, 0.0625)
    write(other, Weights(model.state_dict(), ("disc",), PAPER_VOC.with_width(0.0625)))
    target = tmp_path / "out.safetensors"
    given = [text.format(file=file, root=root, other=other) for text in arguments]
    assert quantize.main([*given, "--out", str(target)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert re.search(message, error)
    assert not target.exists()
