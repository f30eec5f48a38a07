# SPDX-License-Identifier: Apache-2.0
"""Weights that cannot be read back are not written: the file that was there stays."""

import pytest
import torch
from small_weights import small_weights

from ssd_ros import atomic
from ssd_ros.weights.__main__ import main
from ssd_ros.weights.native import to_bytes, write
from ssd_ros.weights.reader import read
from ssd_ros.weights.weights import WeightsError

TENSORS = small_weights().tensors


def with_nan(key):
    return {**TENSORS, key: torch.full_like(TENSORS[key], torch.nan)}


@pytest.fixture
def target(tmp_path):
    """A sound weights file in a folder of its own."""
    file = tmp_path / "folder" / "w.safetensors"
    write(file, small_weights())
    return file


def check_untouched(target, before):
    assert target.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tensors": with_nan("norm4.scale")}, "tensor 'norm4.scale' holds NaN"),
        ({"tensors": {}}, "lacks tensors 'norm4.scale', "),
        ({"tensors": {**TENSORS, "new.bias": torch.ones(1)}}, "holds tensor 'new.bias'"),
        ({"classes": ("cup", "cat")}, r"expected \(12,\) for 2 classes"),
        ({"classes": ("cup", "cup", "cat")}, r"must be different, .* \['cup', 'cup', 'cat'\]"),
        ({"classes": ("cup", " ", "cat")}, "non-empty names"),
        ({"classes": ("cup", 7, "cat")}, r"non-empty names, got \['cup', 7, 'cat'\]"),
        ({"classes": ("cup", "caf\udce9", "cat")}, "surrogates not allowed"),
    ],
)
def test_weights_that_cannot_be_read_back_replace_nothing(changes, reason, target):
    before = target.read_bytes()
    with pytest.raises(WeightsError, match=rf"w\.safetensors' not written: .*{reason}"):
        write(target, small_weights(**changes))
    check_untouched(target, before)


@pytest.mark.parametrize(
    ("tensors", "classes", "reason"),
    [
        (with_nan("conv7.0.bias"), ("a", "b", "c"), "source.safetensors': tensor 'conv7.0.bias'"),
        (TENSORS, ("a", "b", "a"), "source.safetensors': classes must be different"),
        (
            TENSORS,
            ("a", "caf\udce9", "c"),
            "no control characters, got 'caf",
        ),  # Latin-1 on a terminal
    ],
)
def test_convert_replaces_nothing_either(tensors, classes, reason, target, tmp_path, capsys):
    source, before = tmp_path / "source.safetensors", target.read_bytes()
    source.write_bytes(to_bytes(small_weights(tensors=tensors)))
    assert main(["convert", str(source), str(target), "--classes", *classes]) == 1
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1
    check_untouched(target, before)


def test_a_file_is_checked_before_it_gets_its_name(tmp_path):
    file = tmp_path / "file"
    atomic.write(file, b"old")
    seen = []

    def refuse(path):
        seen.append((path.parent, path.read_bytes(), file.read_bytes()))
        raise ValueError("no good")

    with pytest.raises(ValueError, match="no good"):
        atomic.write(file, b"new", refuse)
    assert seen == [(tmp_path, b"new", b"old")]
    check_untouched(file, b"old")
    atomic.write(file, b"new", lambda path: None)
    assert file.read_bytes() == b"new"


def test_sound_weights_are_written_over_the_old_ones(target):
    write(target, small_weights(classes=("a", "b", "c")))
    assert read(target).classes == ("a", "b", "c")
    check_untouched(target, target.read_bytes())
