# SPDX-License-Identifier: Apache-2.0
"""Weights files: what is written is read back, and what is wrong is refused with its reason."""

import json
import math
import os
import pickle
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torchvision.models.detection import ssd300_vgg16

from ssd_ros.model import class_names
from ssd_ros.model.config import PAPER_VOC, TORCHVISION
from ssd_ros.model.ssd import SSD300
from ssd_ros.weights.__main__ import main
from ssd_ros.weights.names import resolve
from ssd_ros.weights.native import FORMAT, write
from ssd_ros.weights.reader import read
from ssd_ros.weights.weights import Weights, WeightsError

CLASSES = ("cup", "kátya", "rocket engine")
VERSION_1 = Path(__file__).parents[1] / "data" / "native_v1.safetensors"


def small_weights(**changes) -> Weights:
    torch.manual_seed(0)
    model = SSD300(len(CLASSES), width=0.125)
    values = {
        "tensors": model.state_dict(),
        "classes": CLASSES,
        "config": model.config,
        "training": {"mAP": 0.5},
    }
    return Weights(**{**values, **changes})


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory) -> Path:
    """A state dict of torchvision's network with three classes."""
    torch.manual_seed(0)
    model = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=4)
    file = tmp_path_factory.mktemp("weights") / "theirs.pth"
    torch.save(model.half().state_dict(), file)
    return file


def test_what_is_written_is_read_back(tmp_path):
    written = small_weights()
    write(tmp_path / "w.safetensors", written)
    got = read(tmp_path / "w.safetensors")
    assert (got.classes, got.config) == (CLASSES, PAPER_VOC.with_width(0.125))
    assert got.training == {"mAP": 0.5}
    image = torch.randint(0, 256, (1, 300, 300, 3), dtype=torch.uint8)
    with torch.inference_mode():
        once, again = (w.model()(w.model().normalise(image)) for w in (written, got))
    assert torch.equal(once[0], again[0])
    assert torch.equal(once[1], again[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_read_with_their_values_and_written_again(dtype, tmp_path):
    tensors = {key: tensor.to(dtype) for key, tensor in small_weights().tensors.items()}
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    write(first, small_weights(tensors=tensors))
    got = read(first)
    for key, tensor in got.model().state_dict().items():
        assert torch.equal(tensor, tensors[key].float())
    write(second, got)
    again = safetensors.torch.load_file(second)
    assert all(torch.equal(again[key], tensor) for key, tensor in tensors.items())
    assert {tensor.dtype for tensor in again.values()} == {dtype}


def test_the_whole_configuration_is_kept(tmp_path):
    config = replace(
        small_weights().config, clip="centre_and_size", variances=(0.3, 0.4), std=(0.1, 0.2, 0.3)
    )
    write(tmp_path / "w.safetensors", small_weights(config=config))
    assert read(tmp_path / "w.safetensors").config == config


def test_a_file_of_version_1_is_read_as_before():
    # Written by the code of version 1: torch.manual_seed(7), width 0.03, float16, clipped boxes.
    got = read(VERSION_1)
    assert got.classes == ("cup", "cat")
    assert got.config == TORCHVISION.with_width(0.03)
    assert got.training == {}
    stored = safetensors.torch.load_file(VERSION_1)
    state = got.model().state_dict()
    assert state.keys() == stored.keys()
    assert all(torch.equal(state[key], tensor.float()) for key, tensor in stored.items())


def test_the_bundled_weights_are_read_bit_for_bit():
    file = resolve("demo")
    stored = safetensors.torch.load_file(file)
    got = read("demo")
    assert got.config == PAPER_VOC.with_width(0.25)
    for key, array in got.tensors.items():
        assert torch.equal(torch.from_numpy(array), stored[key])
    assert len(got.tensors) == len(stored)


def test_a_file_can_be_overwritten_after_it_was_read(tmp_path):
    file = tmp_path / "w.safetensors"
    write(file, small_weights())
    got = read(file)
    with file.open("r+b") as opened:
        opened.truncate(100)
    for key, tensor in small_weights().tensors.items():
        assert torch.equal(torch.from_numpy(got.tensors[key]), tensor)


def test_class_names_of_a_native_file_can_be_replaced(tmp_path):
    write(tmp_path / "w.safetensors", small_weights())
    assert read(tmp_path / "w.safetensors", ["a", "b", "c"]).classes == ("a", "b", "c")
    with pytest.raises(WeightsError, match="3 classes besides the background, got 1 names: a"):
        read(tmp_path / "w.safetensors", ["a"])


def test_writing_leaves_one_file_with_the_usual_rights(tmp_path):
    write(tmp_path / "w.safetensors", small_weights())
    write(tmp_path / "w.safetensors", small_weights())
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
    (tmp_path / "plain").touch()
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_torchvision_weights_get_names_and_torchvisions_numbers(torchvision_file):
    weights = read(torchvision_file, CLASSES)
    assert (weights.classes, weights.config, weights.config.width) == (CLASSES, TORCHVISION, 1.0)


def test_torchvisions_own_outputs_have_known_names(tmp_path):
    model = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=21)
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "voc.pth")
    assert read(tmp_path / "voc.pth").classes == tuple(class_names.VOC)
    assert len(set(class_names.COCO)) == len(class_names.COCO) == 90


def test_class_names_must_be_as_many_as_the_network_has(torchvision_file):
    with pytest.raises(WeightsError, match=r"has 3 classes but no class names; convert it"):
        read(torchvision_file)
    with pytest.raises(WeightsError, match="3 classes besides the background, got 2 names: a, b"):
        read(torchvision_file, ["a", "b"])
    with pytest.raises(WeightsError, match="different"):
        read(torchvision_file, ["a", "b", "a"])


class RunsCode:
    """A pickle of it would make a folder when it is opened without care."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def truncated(file: Path) -> None:
    write(file, small_weights())
    file.write_bytes(file.read_bytes()[:-1000])


def truncated_pytorch(file: Path) -> None:
    torch.save(small_weights().tensors, file)
    file.write_bytes(file.read_bytes()[:-1000])


def of_another_network(file: Path) -> None:
    safetensors.torch.save_file({"layer1.weight": torch.zeros(3)}, file)


def without_a_tensor(file: Path) -> None:
    tensors = dict(small_weights().tensors)
    del tensors["conv7.0.bias"]
    write(file, small_weights(tensors=tensors))


def with_a_tensor_too_many(file: Path) -> None:
    write(file, small_weights(tensors={**small_weights().tensors, "extra.bias": torch.ones(2)}))


def misshapen(file: Path) -> None:
    write(file, small_weights(classes=CLASSES[:2]))


def with_nan(file: Path) -> None:
    tensors = dict(small_weights().tensors)
    tensors["scores.2.bias"] = torch.full_like(tensors["scores.2.bias"], torch.nan)
    write(file, small_weights(tensors=tensors))


def with_infinity(file: Path) -> None:
    tensors = {key: tensor.half() for key, tensor in small_weights().tensors.items()}
    tensors["conv1.1.weight"][0, 0, 0, 0] = torch.inf
    write(file, small_weights(tensors=tensors))


def of_integers(file: Path) -> None:
    write(file, small_weights(tensors={k: t.int() for k, t in small_weights().tensors.items()}))


def running_code(file: Path) -> None:
    torch.save({"weights": RunsCode(file.parent / "ran")}, file)


def bare_pickle_running_code(file: Path) -> None:
    file.write_bytes(pickle.dumps(RunsCode(file.parent / "ran"), protocol=2))


def empty(file: Path) -> None:
    file.touch()


def text(file: Path) -> None:
    file.write_text("<!DOCTYPE html> not found")


def of_a_later_format(file: Path) -> None:
    save_with(file, format="ssd_ros/9")


def with_broken_metadata(file: Path) -> None:
    save_with(file, config="{}")


def without_metadata(file: Path) -> None:
    safetensors.torch.save_file(dict(small_weights().tensors), file)


def with_cells_that_the_network_does_not_make(file: Path) -> None:
    config = asdict(small_weights().config)
    config["feature_maps"][0]["cells"] = 10**9
    save_with(file, config=json.dumps(config))


def with_an_infinite_input(file: Path) -> None:
    save_with(file, config=json.dumps(asdict(small_weights().config) | {"input_size": math.inf}))


def of_version_1_with(file: Path, **metadata: str) -> None:
    data = VERSION_1.read_bytes()
    tensors = safetensors.torch.load(data)
    original = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    safetensors.torch.save_file(tensors, file, original | metadata)


def of_version_1_with_broken_metadata(file: Path) -> None:
    of_version_1_with(file, default_boxes="{}")


def of_version_1_with_a_nonsense_width(file: Path) -> None:
    of_version_1_with(file, width="-1")


def torchvisions_without_a_tensor(file: Path) -> None:
    with torch.device("meta"):
        state = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=4).state_dict()
    tensors = {key: torch.zeros(tensor.shape, dtype=torch.half) for key, tensor in state.items()}
    del tensors["backbone.extra.0.7.3.bias"]
    safetensors.torch.save_file(tensors, file)


def save_with(file: Path, **metadata: str) -> None:
    """A native file with some metadata replaced."""
    write(file, small_weights())
    with safetensors.safe_open(file, "pt") as opened:
        original = opened.metadata()
    safetensors.torch.save_file(dict(small_weights().tensors), file, original | metadata)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (truncated, "damaged or truncated"),
        (truncated_pytorch, "damaged or truncated"),
        (of_another_network, "not an SSD300 checkpoint: found neither .* nor .*layer1.weight"),
        (without_a_tensor, "lacks tensor 'conv7.0.bias'"),
        (with_a_tensor_too_many, "holds tensor 'extra.bias', which SSD300 does not have"),
        (misshapen, r"'scores.0.bias' has shape \(16,\), expected \(12,\) for 2 classes"),
        (with_nan, "'scores.2.bias' holds NaN"),
        (with_infinity, "'conv1.1.weight' holds NaN or infinite"),
        (of_integers, "type I32, expected floating point"),
        (running_code, "references posix.mkdir and could execute code"),
        (bare_pickle_running_code, "references posix.mkdir and could execute code"),
        (empty, "is empty"),
        (text, "neither"),
        (of_a_later_format, f"format 'ssd_ros/9', expected '{FORMAT}'"),
        (with_broken_metadata, "'config' has no 'feature_maps'"),
        (without_metadata, "looks like an ssd_ros file, but has no metadata"),
        (with_cells_that_the_network_does_not_make, "1000000000, 19.* makes maps of .38, 19"),
        (with_an_infinite_input, "unusable metadata"),
        (of_version_1_with_broken_metadata, "'default_boxes' has no 'scales'"),
        (of_version_1_with_a_nonsense_width, "width.*-1"),
        (
            torchvisions_without_a_tensor,
            "looks like torchvision's ssd300_vgg16, but lacks tensor 'backbone.extra.0.7.3.bias'",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_bad_file_is_refused_with_its_name_and_its_own_reason(make, reason, tmp_path):
    file = tmp_path / "bad.safetensors"
    make(file)
    with pytest.raises(WeightsError, match=f"(?s)bad.safetensors.*{reason}"):
        read(file)
    assert not (tmp_path / "ran").exists()


def test_a_missing_file_is_refused_with_its_name(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.pth.*No such file"):
        read(tmp_path / "nowhere.pth")


def test_convert_and_info_tell_what_a_file_is(torchvision_file, tmp_path, capsys):
    native = tmp_path / "native.safetensors"
    assert main(["convert", str(torchvision_file), str(native), "--classes", *CLASSES]) == 0
    assert main(["info", str(native)]) == 0
    told = capsys.readouterr().out
    for fact in (*CLASSES, "8732", "width 1", "float16", "123.0, 117.0, 104.0", "clip: size"):
        assert fact in told


def test_a_refusal_on_the_command_line_is_one_line_and_exit_code_1(tmp_path):
    command = [sys.executable, "-m", "ssd_ros.weights", "info", str(tmp_path / "none")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: weights file")
    assert result.stderr.count("\n") == 1
