# SPDX-License-Identifier: Apache-2.0
"""A weights file that cannot be used is refused with its name and its own reason."""

import argparse
import json
import math
import os
import pickle
import random
import tracemalloc
from dataclasses import asdict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from small_weights import CLASSES, VERSION_1, small_weights
from torchvision.models.detection import ssd300_vgg16

from ssd_ros.weights.containers import open_file
from ssd_ros.weights.native import FORMAT, to_bytes
from ssd_ros.weights.reader import read
from ssd_ros.weights.weights import WeightsError


class RunsCode:
    """A pickle of it would make a folder when it is opened without care."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def save(file: Path, **changes) -> None:
    """A native file without the check that `native.write` makes."""
    file.write_bytes(to_bytes(small_weights(**changes)))


def truncated(file: Path) -> None:
    save(file)
    file.write_bytes(file.read_bytes()[:-1000])


def truncated_pytorch(file: Path) -> None:
    torch.save(small_weights().tensors, file)
    file.write_bytes(file.read_bytes()[:-1000])


def of_another_network(file: Path) -> None:
    safetensors.torch.save_file({"layer1.weight": torch.zeros(3)}, file)


def without_a_tensor(file: Path) -> None:
    tensors = dict(small_weights().tensors)
    del tensors["conv7.0.bias"]
    save(file, tensors=tensors)


def with_a_tensor_too_many(file: Path) -> None:
    save(file, tensors={**small_weights().tensors, "extra.bias": torch.ones(2)})


def misshapen(file: Path) -> None:
    save(file, classes=CLASSES[:2])


def with_nan(file: Path) -> None:
    tensors = dict(small_weights().tensors)
    tensors["scores.2.bias"] = torch.full_like(tensors["scores.2.bias"], torch.nan)
    save(file, tensors=tensors)


def with_infinity(file: Path) -> None:
    tensors = {key: tensor.half() for key, tensor in small_weights().tensors.items()}
    tensors["conv1.1.weight"][0, 0, 0, 0] = torch.inf
    save(file, tensors=tensors)


def of_integers(file: Path) -> None:
    save(file, tensors={k: t.int() for k, t in small_weights().tensors.items()})


def with_metadata_that_are_no_texts(file: Path) -> None:
    header = b'{"__metadata__":{"format":["ssd_ros/2"]}}'
    file.write_bytes(len(header).to_bytes(8, "little") + header)


def with_a_sparse_tensor(file: Path) -> None:
    with torch.device("meta"):
        state = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=4).state_dict()
    tensors = {key: torch.zeros(tensor.shape, dtype=torch.half) for key, tensor in state.items()}
    key = "backbone.scale_weight"
    torch.save({**tensors, key: tensors[key].to_sparse()}, file)


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
    config["feature_maps"][0]["cells"] = 37
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
    save(file)
    with safetensors.safe_open(file, "pt") as opened:
        original = opened.metadata()
    safetensors.torch.save_file(dict(small_weights().tensors), file, original | metadata)


def with_class(name: str):
    """A maker of a file with a class of this name."""

    def make(file: Path) -> None:
        save_with(file, classes=json.dumps(["cup", name, "cat"]))

    return make


def with_config(**changes):
    """A maker of a file with another configuration."""

    def make(file: Path) -> None:
        save_with(file, config=json.dumps(asdict(small_weights().config) | changes))

    return make


def of_version_1_with_a_width_beyond_float(file: Path) -> None:
    of_version_1_with(file, width="1" + 400 * "0")


def of_version_1_with_a_mean_beyond_float(file: Path) -> None:
    of_version_1_with(file, mean=f"[0, 0, 1{400 * '0'}]")


def of_version_1_with_20000_aspect_ratios(file: Path) -> None:
    ratios = [[2] * 20_000, *[[2]] * 5]
    boxes = {"scales": [0.1] * 7, "aspect_ratios": ratios, "steps": [8] * 6, "clip": False}
    of_version_1_with(file, default_boxes=json.dumps(boxes))


def with_deep_metadata(file: Path) -> None:
    save_with(file, classes="[" * 900 + "]" * 900)


def with_an_escape_sequence_in_a_name(file: Path) -> None:
    save(file, tensors={**small_weights().tensors, "\x1b[2J": torch.ones(2)})


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (truncated, "damaged or truncated"),
        (truncated_pytorch, "damaged or truncated"),
        (of_another_network, "not an SSD checkpoint: found neither .* nor .*layer1.weight"),
        (without_a_tensor, "lacks tensor 'conv7.0.bias'"),
        (with_a_tensor_too_many, "holds tensor 'extra.bias', which the network does not have"),
        (misshapen, r"'scores.0.bias' has shape \(16,\), expected \(12,\) for 2 classes"),
        (with_nan, "'scores.2.bias' holds NaN"),
        (with_infinity, "'conv1.1.weight' holds NaN or infinite"),
        (of_integers, "type int32, expected floating point"),
        (with_metadata_that_are_no_texts, "damaged .*metadata must be texts"),
        (with_a_sparse_tensor, "tensor 'backbone.scale_weight' is no plain array"),
        (running_code, "references posix.mkdir and could execute code"),
        (bare_pickle_running_code, "references posix.mkdir and could execute code"),
        (empty, "is empty"),
        (text, "neither"),
        (of_a_later_format, f"format 'ssd_ros/9', expected '{FORMAT}'"),
        (with_broken_metadata, "'config' has no 'feature_maps'"),
        (without_metadata, "looks like an ssd_ros file, but has no metadata"),
        (with_cells_that_the_network_does_not_make, "37, 19.* makes maps of .38, 19"),
        (with_an_infinite_input, "unusable metadata"),
        (of_version_1_with_broken_metadata, "'default_boxes' has no 'scales'"),
        (of_version_1_with_a_nonsense_width, "width.*-1"),
        (of_version_1_with_a_width_beyond_float, "unusable metadata: .*too large"),
        (of_version_1_with_a_mean_beyond_float, "unusable metadata: .*too large"),
        (of_version_1_with_20000_aspect_ratios, "at most 100000 default boxes, got 57"),
        (with_deep_metadata, "classes must be|unusable"),
        (with_an_escape_sequence_in_a_name, r"holds tensor '.x1b.2J', which the network"),
        (with_class("caf\udce9"), r"no control characters, got 'caf.+udce9'"),
        (with_class("cat\0"), r"no control characters, got 'cat.+x00'"),
        (with_class("cat\n"), r"no control characters, got 'cat.+n'"),
        (with_class("\x1b[31mcat"), r"no control characters, got '.+31mcat'"),
        (with_class("x" * 201), "at most 200 characters"),
        (with_config(std=[1e-40, 1, 1]), "std must be from 1e-06 to 1e.06"),
        (with_config(variances=[1e300, 1]), "variances must be from 1e-06 to 1e.06"),
        (with_config(mean=[1e39, 1, 1]), "mean must be at most 1e.06 in size"),
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


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device", "folder"])
def test_what_is_no_file_is_refused_at_once(kind, tmp_path):
    """Reading from a pipe would wait for ever, and reading a device never end."""
    path = tmp_path / "w.safetensors"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(WeightsError, match=r"'.*' ?: is not a regular file"):
        read("/dev/zero" if kind == "device" else path)


def refused_with_little_memory(file: Path, reason: str) -> None:
    tracemalloc.start()
    with pytest.raises(WeightsError, match=reason):
        read(file)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ([500_000_000], "not an SSD checkpoint"),
        ([600_000_000], "has 2400000.* bytes, expected at most 2147483648"),
        ([1 << 40, 1 << 40], "damaged"),
    ],
)
def test_a_large_file_of_another_network_is_not_loaded(elements, reason, tmp_path):
    file, size = tmp_path / "sparse.safetensors", 4 * math.prod(elements)
    entry = {"dtype": "F32", "shape": elements, "data_offsets": [0, min(size, 1 << 40)]}
    header = json.dumps({"a": entry}).encode()
    with file.open("wb") as opened:
        opened.write(len(header).to_bytes(8, "little") + header)
        opened.truncate(8 + len(header) + min(size, 10**10))
    refused_with_little_memory(file, reason if size < 1 << 40 else "bytes, expected at most")


def test_many_empty_tensors_are_refused_by_the_size_of_the_header(tmp_path):
    file = tmp_path / "many.safetensors"
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"t{i}": entry for i in range(100_000)}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    refused_with_little_memory(file, "header has .* bytes, expected at most")


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path):
    """In a mapped file that would end the process."""
    file = tmp_path / "w.safetensors"
    save(file)
    _, load = open_file(file)
    os.truncate(file, 10_000)
    with pytest.raises(WeightsError, match="is truncated"):
        load()


def test_tensors_are_those_of_the_file_that_was_checked(tmp_path):
    """Another file that is put in its place meanwhile belongs to the next one who reads."""
    file = tmp_path / "w.safetensors"
    save(file)
    header, load = open_file(file)
    (tmp_path / "other").write_text("other")
    (tmp_path / "other").replace(file)
    arrays = load()
    assert {key: array.shape for key, array in arrays.items()} == header.shapes


def test_a_file_is_opened_once(tmp_path, monkeypatch):
    file = tmp_path / "w.safetensors"
    save(file)
    opened, original = [], os.open

    def counting(path, *arguments, **options):
        opened.append(path)
        return original(path, *arguments, **options)

    monkeypatch.setattr(os, "open", counting)
    read(file)
    assert opened.count(file) == 1


@pytest.mark.parametrize("kind", ["native", "zip", "before 1.6"])
def test_changed_bytes_are_no_other_error(kind, tmp_path):
    """Whatever is in a file, the node gets weights or a WeightsError."""
    file = tmp_path / "w"
    if kind == "native":
        save(file)
    else:
        state = {"state_dict": {"conv.weight": torch.ones(3, 2), "args": argparse.Namespace(a=1)}}
        torch.save(state, file, _use_new_zipfile_serialization=kind == "zip")
    sound, generator = file.read_bytes(), random.Random(1)
    refused = 0
    for _ in range(300):
        data = bytearray(sound[: generator.choice([len(sound), generator.randrange(len(sound))])])
        for _ in range(generator.randrange(1, 5)):
            place = generator.randrange(max(1, min(len(data), 6000)))
            data[place : place + generator.randrange(3)] = generator.randbytes(
                generator.randrange(4)
            )
        file.write_bytes(data)
        try:
            open_file(file)[1]()
            read(file)
        except WeightsError:
            refused += 1
    assert refused > 100
