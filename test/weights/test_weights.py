# SPDX-License-Identifier: Apache-2.0
"""Weights files: what is written is read back, and what is wrong is refused with its reason."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torchvision.models.detection import ssd300_vgg16

from ssd_ros.model import class_names
from ssd_ros.model.config import PAPER_VOC, TORCHVISION
from ssd_ros.model.ssd import SSD300
from ssd_ros.weights.__main__ import main
from ssd_ros.weights.native import FORMAT, write
from ssd_ros.weights.reader import read
from ssd_ros.weights.weights import Weights, WeightsError

CLASSES = ("cup", "kátya", "rocket engine")


def small_weights(**changes) -> Weights:
    torch.manual_seed(0)
    model = SSD300(len(CLASSES), width=0.125)
    values = {
        "tensors": model.state_dict(),
        "classes": CLASSES,
        "config": PAPER_VOC,
        "width": 0.125,
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
    assert (got.classes, got.config, got.width) == (CLASSES, PAPER_VOC, 0.125)
    assert got.training == {"mAP": 0.5}
    image = torch.randint(0, 256, (1, 300, 300, 3), dtype=torch.uint8)
    with torch.inference_mode():
        once, again = (w.model()(w.model().normalise(image)) for w in (written, got))
    assert torch.equal(once[0], again[0])
    assert torch.equal(once[1], again[1])


def test_writing_leaves_one_file_with_the_usual_rights(tmp_path):
    write(tmp_path / "w.safetensors", small_weights())
    write(tmp_path / "w.safetensors", small_weights())
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
    (tmp_path / "plain").touch()
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_torchvision_weights_get_names_and_torchvisions_numbers(torchvision_file):
    weights = read(torchvision_file, CLASSES)
    assert (weights.classes, weights.config, weights.width) == (CLASSES, TORCHVISION, 1.0)


def test_torchvisions_own_outputs_have_known_names(tmp_path):
    model = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=21)
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "voc.pth")
    assert read(tmp_path / "voc.pth").classes == tuple(class_names.VOC)
    assert len(set(class_names.COCO)) == len(class_names.COCO) == 90


def test_class_names_must_be_as_many_as_the_network_has(torchvision_file):
    with pytest.raises(WeightsError, match=r"3 classes .* convert it"):
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
    save_with(file, default_boxes="{}")


def with_a_nonsense_width(file: Path) -> None:
    save_with(file, width="-1")


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
        (of_another_network, "another network.*layer1.weight"),
        (without_a_tensor, "lacks tensor 'conv7.0.bias'"),
        (with_a_tensor_too_many, "holds tensor 'extra.bias', which SSD300 does not have"),
        (misshapen, r"'scores.0.bias' has shape \(16,\), expected \(12,\) for 2 classes"),
        (with_nan, "'scores.2.bias' holds NaN"),
        (with_infinity, "'conv1.1.weight' holds NaN or infinite"),
        (of_integers, "type torch.int32, expected floating point"),
        (running_code, "would call posix.mkdir"),
        (bare_pickle_running_code, "would call posix.mkdir"),
        (empty, "is empty"),
        (text, "neither"),
        (of_a_later_format, f"format 'ssd_ros/9', expected '{FORMAT}'"),
        (with_broken_metadata, "'default_boxes' has no 'scales'"),
        (with_a_nonsense_width, "width.*-1"),
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
    for fact in (*CLASSES, "8732", "width 1", "float16", "123.0, 117.0, 104.0"):
        assert fact in told


def test_a_refusal_on_the_command_line_is_one_line_and_exit_code_1(tmp_path):
    command = [sys.executable, "-m", "ssd_ros.weights", "info", str(tmp_path / "none")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: weights file")
    assert result.stderr.count("\n") == 1
