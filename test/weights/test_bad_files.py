# SPDX-License-Identifier: Apache-2.0
"""A weights file that cannot be used is refused with its name and its own reason."""

import json
import math
import os
import pickle
from dataclasses import asdict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from small_weights import CLASSES, VERSION_1, small_weights
from torchvision.models.detection import ssd300_vgg16

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
    save(file)
    with safetensors.safe_open(file, "pt") as opened:
        original = opened.metadata()
    safetensors.torch.save_file(dict(small_weights().tensors), file, original | metadata)


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
