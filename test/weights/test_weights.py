# SPDX-License-Identifier: Apache-2.0
"""Weights files: what is written is read back; old and foreign files are read; the command."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from made_weights import torchvision_state_dict
from small_weights import CLASSES, VERSION_1, small_weights

from ssd_ros.model import class_names
from ssd_ros.model.config import PAPER_VOC, TORCHVISION
from ssd_ros.weights.__main__ import main
from ssd_ros.weights.names import resolve
from ssd_ros.weights.native import write
from ssd_ros.weights.reader import read
from ssd_ros.weights.weights import WeightsError


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory) -> Path:
    """A state dict of torchvision's network with three classes."""
    file = tmp_path_factory.mktemp("weights") / "theirs.pth"
    torch.save(torchvision_state_dict(4), file)
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


@pytest.mark.parametrize("length", [0x0280, 0x4B50], ids=["as a pickle", "as a zip archive"])
def test_a_header_whose_length_reads_as_another_kind_of_file_is_read(length, tmp_path):
    """A .safetensors file starts with its header's length, whose low bytes may be any."""
    file = tmp_path / "w.safetensors"
    write(file, small_weights(training={"note": ""}))
    lacking = (length - int.from_bytes(file.read_bytes()[:8], "little")) % 0x10000
    write(file, small_weights(training={"note": "x" * lacking}))
    assert file.read_bytes()[:2] == length.to_bytes(2, "little")
    assert read(file).classes == CLASSES


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
    torch.save({"model": torchvision_state_dict(21), "epoch": 3}, tmp_path / "voc.pth")
    assert read(tmp_path / "voc.pth").classes == tuple(class_names.VOC)
    assert len(set(class_names.COCO)) == len(class_names.COCO) == 90


def test_torchvision_weights_are_read_from_safetensors_as_other_libraries_write_them(tmp_path):
    state = {f"module.{key}": tensor for key, tensor in torchvision_state_dict(21).items()}
    safetensors.torch.save_file(state, tmp_path / "voc.safetensors", {"format": "pt"})
    assert read(tmp_path / "voc.safetensors").classes == tuple(class_names.VOC)


def test_class_names_must_be_as_many_as_the_network_has(torchvision_file):
    with pytest.raises(WeightsError, match=r"has 3 classes but no class names; convert it"):
        read(torchvision_file)
    with pytest.raises(WeightsError, match="3 classes besides the background, got 2 names: a, b"):
        read(torchvision_file, ["a", "b"])
    with pytest.raises(WeightsError, match="different"):
        read(torchvision_file, ["a", "b", "a"])


def test_convert_and_info_tell_what_a_file_is(torchvision_file, tmp_path, capsys):
    native = tmp_path / "native.safetensors"
    assert main(["convert", str(torchvision_file), str(native), "--classes", *CLASSES]) == 0
    assert main(["info", str(native)]) == 0
    told = capsys.readouterr().out
    for fact in (*CLASSES, "8732", "width 1", "float16", "123.0, 117.0, 104.0", "clip: size"):
        assert fact in told


def test_info_prints_no_control_characters_of_a_file(tmp_path, capsys):
    file = tmp_path / "w.safetensors"
    write(file, small_weights(training={"note": "\x9b2J"}))  # which clears some terminals
    assert main(["info", str(file)]) == 0
    assert "\x9b" not in (printed := capsys.readouterr().out)
    assert r"\x9b2J" in printed


def test_a_refusal_on_the_command_line_is_one_line_and_exit_code_1(tmp_path):
    command = [sys.executable, "-m", "ssd_ros.weights", "info", str(tmp_path / "none")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: weights file")
    assert result.stderr.count("\n") == 1
