# SPDX-License-Identifier: Apache-2.0
"""ResNet-50 in state dicts: torchvision's names of its convolutions, and its normalisation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ssd_ros.model.config import SSDConfig
from ssd_ros.model.layers import convolutions
from ssd_ros.model.resnet50 import BASE
from ssd_ros.weights.containers import Arrays

NORM_PARTS = ("weight", "bias", "running_mean", "running_var")
COUNTER = "num_batches_tracked"  # of a batch normalisation; nothing that runs a network needs it
_EPS = 1e-5  # of torchvision's


class Names(NamedTuple):
    """What stands for one of our convolutions: the prefixes of theirs and of its normalisation."""

    conv: str
    norm: str


def names(
    config: SSDConfig,
    stem: tuple[str, str] = ("conv1", "bn1"),
    stages: Sequence[str] = ("layer1", "layer2", "layer3", "layer4"),
) -> dict[str, Names]:
    """Their names of the base network's convolutions, by ours.

    Args:
        config: a network with ResNet-50.
        stem: their names of the first convolution and its normalisation.
        stages: their names of conv2 to conv5.
    """
    return dict(_names(config, stem, stages))


def _names(
    config: SSDConfig, stem: tuple[str, str], stages: Sequence[str]
) -> Iterator[tuple[str, Names]]:
    for conv in convolutions(config):
        stage, *rest = conv.name.split(".")
        if stage == BASE[0]:
            yield conv.name, Names(*stem)
        elif stage in BASE:
            block = f"{stages[BASE.index(stage) - 1]}.{int(rest[0]) - 1}"
            if rest[1] == "down":
                yield conv.name, Names(f"{block}.downsample.0", f"{block}.downsample.1")
            else:
                yield conv.name, Names(f"{block}.conv{rest[1]}", f"{block}.bn{rest[1]}")


def fold(tensors: Mapping[str, np.ndarray], name: Names) -> tuple[np.ndarray, np.ndarray]:
    """The kernel and the bias that compute what a convolution and its normalisation do.

    In double precision, as it happens once; the results have the kernel's type.

    Raises:
        ValueError: a variance is negative.
    """
    kernel = tensors[f"{name.conv}.weight"]
    scale, shift, mean, variance = (
        tensors[f"{name.norm}.{part}"].astype(np.float64) for part in NORM_PARTS
    )
    if (variance < 0).any():
        raise ValueError(f"tensor '{name.norm}.running_var' holds negative values")
    factor = scale / np.sqrt(variance + _EPS)
    folded = kernel.astype(np.float64) * factor.reshape(-1, 1, 1, 1)
    return folded.astype(kernel.dtype), (shift - mean * factor).astype(kernel.dtype)


def unfolded(tensors: Mapping[str, np.ndarray], names: Mapping[str, Names]) -> Arrays:
    """The base network's tensors as a training has them: `conv1.1.norm` is that of `conv1.1`.

    Raises:
        KeyError: a tensor is missing.
    """
    arrays: Arrays = {}
    for ours, name in names.items():
        arrays[f"{ours}.weight"] = tensors[f"{name.conv}.weight"]
        for part in NORM_PARTS:
            arrays[f"{ours}.norm.{part}"] = tensors[f"{name.norm}.{part}"]
        arrays[f"{ours}.bias"] = np.zeros_like(arrays[f"{ours}.norm.bias"])
    return arrays
