# SPDX-License-Identifier: Apache-2.0
"""Pretrained weights: a backbone, or another detector."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssd_ros.model.config import PAPER_VOC, RESNET50, SSDConfig
from ssd_ros.model.ssd import SSD
from ssd_ros.weights import reader, resnet50
from ssd_ros.weights.containers import Arrays, open_file
from ssd_ros.weights.layouts import ml_rover
from ssd_ros.weights.layouts.renamed import VGG16_PLACES
from ssd_ros.weights.names import resolve
from ssd_ros.weights.weights import WeightsError
from training.trainer import batch_norm, class_heads

IMAGENET_MEAN, IMAGENET_STD = RESNET50.mean, RESNET50.std
VGG16_DOWNLOAD, RESNET50_DOWNLOAD = "vgg16", "resnet50"

# torchvision's vgg16 ends with conv5.
_VGG16_LAYERS = {name: place for name, place in VGG16_PLACES.items() if name < "conv6"}
_RESNET50_LAYERS = resnet50.names(RESNET50)
_FULLY_CONNECTED = {"fc6": "conv6", "fc7": "conv7"}  # names of other implementations


@dataclass(frozen=True)
class Pretrained:
    """Tensors to initialise a network with.

    Attributes:
        tensors: keys of the network's state dict, not necessarily all of them.
        config: default boxes and input normalisation of their training.
        classes: of the heads, None if the file has no heads.
    """

    tensors: dict[str, Tensor]
    config: SSDConfig
    classes: tuple[str, ...] | None = None

    @property
    def folded(self) -> bool:
        """Whether batch normalisation, if there was any, is part of the convolutions."""
        return not batch_norm.layers(self.tensors)


def read(source: str) -> Pretrained:
    """Reads what `--init` names.

    Args:
        source: `vgg16` or `resnet50` (torchvision's ImageNet weights, downloaded), a file of VGG16
            features or of a ResNet-50 with torchvision's keys, or any weights file that
            `ssd_ros.weights.reader` reads, also one without class names.

    Raises:
        WeightsError: the file cannot be used.
    """
    if source == VGG16_DOWNLOAD:
        return _from_vgg16(_download("VGG16_Weights.IMAGENET1K_V1"))
    if source == RESNET50_DOWNLOAD:
        state_dict = _download("ResNet50_Weights.IMAGENET1K_V2")
        return _from_resnet50({key: tensor.numpy() for key, tensor in state_dict.items()})
    path = resolve(source)
    try:
        header, load = open_file(path)
        if "features.0.weight" in header.shapes:
            return _from_vgg16({key: torch.from_numpy(array) for key, array in load().items()})
        if "layer1.0.conv1.weight" in header.shapes:
            return _from_resnet50(load())
        normalised: Arrays = {}
        if ml_rover.inspect(header) is None:  # a training goes on with its batch normalisation
            arrays = load()
            load, normalised = (lambda: arrays), ml_rover.unfolded(arrays)
        weights = reader.parse(header, load, unnamed=True)
    except ValueError as error:
        raise WeightsError(f"weights file '{path}': {error}") from None
    tensors = weights.model().state_dict() | _to_torch(normalised)
    return Pretrained(tensors, weights.config, weights.classes)


def ancestry(source: str) -> dict[str, Any]:
    """What is known of the weights that `--init` names: `file`, and the note in a native file."""
    if source in (VGG16_DOWNLOAD, RESNET50_DOWNLOAD):
        return {"file": source}
    path = resolve(source)
    note: dict[str, Any] = {}
    with contextlib.suppress(ValueError, KeyError, TypeError):  # others have no note
        note = dict(json.loads(open_file(path)[0].metadata["training"]))
    return {"file": path.name, **note}


def _download(name: str) -> dict[str, Tensor]:
    """torchvision's weights of this name, from the cache of torch.hub if they are there.

    Raises:
        WeightsError: they are not, and cannot be downloaded.
    """
    from torchvision.models import get_weight

    weights = get_weight(name)
    try:
        return dict(weights.get_state_dict(progress=True, check_hash=True))
    except (OSError, RuntimeError) as error:  # the latter where the hash differs
        folder = Path(torch.hub.get_dir(), "checkpoints")
        raise WeightsError(
            f"downloading {weights.url} failed: {error}. Try again with a network, or put that "
            f"file into {folder}, or give --init a file"
        ) from None


def _from_vgg16(state_dict: dict[str, Tensor]) -> Pretrained:
    try:
        tensors = {
            f"{layer}.{part}": state_dict[f"features.{number}.{part}"].float()
            for layer, number in _VGG16_LAYERS.items()
            for part in ("weight", "bias")
        }
    except KeyError as error:
        raise WeightsError(f"has VGG16 features, but no tensor {error}") from None
    return Pretrained(tensors, replace(PAPER_VOC, mean=IMAGENET_MEAN, std=IMAGENET_STD))


def _from_resnet50(arrays: Arrays) -> Pretrained:
    try:
        tensors = resnet50.unfolded(arrays, _RESNET50_LAYERS)
    except KeyError as error:
        raise WeightsError(f"has layers of a ResNet, but no tensor {error} of ResNet-50") from None
    known = {prefix for name in _RESNET50_LAYERS.values() for prefix in name} | {"fc"}
    if other := [key for key in arrays if key.rpartition(".")[0] not in known]:
        raise WeightsError(f"has tensor '{other[0]}', which ResNet-50 does not have")
    return Pretrained(_to_torch(tensors), RESNET50)


def _to_torch(arrays: Arrays) -> dict[str, Tensor]:
    return {key: torch.from_numpy(array).float() for key, array in arrays.items()}


def layers(model: SSD, names: str) -> tuple[str, ...]:
    """Names of modules from a comma-separated list of the paper's layers.

    `conv4` is a stage, `conv4_3` (also `conv4.3`) one convolution, `fc6` and `fc7` are `conv6` and
    `conv7`.

    Raises:
        ValueError: unknown layer.
    """
    stages = [name for name, _ in model.named_children()]
    convolutions = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    chosen = []
    for name in filter(None, map(str.strip, names.split(","))):
        module = _FULLY_CONNECTED.get(name, name.replace("_", "."))
        if module not in stages + convolutions:
            raise ValueError(
                f"unknown layer '{name}'; layers: {', '.join(stages)}, and single convolutions "
                "such as conv4_3"
            )
        chosen.append(module)
    return tuple(chosen)


def apply(model: SSD, source: Pretrained, classes: Sequence[str], only: Sequence[str] = ()) -> int:
    """Copies tensors into a network; of the class heads the rows of classes with the same names.

    Args:
        model: the network, with or without batch normalisation.
        source: where they come from.
        classes: class names of the network.
        only: names of the modules to copy; empty for all.

    Returns:
        The number of tensors copied, at least in part.

    Raises:
        ValueError: a tensor has another shape, or no tensor is in the chosen layers.
    """
    state = model.state_dict()
    shared = class_heads.shared_classes(classes, source.classes)
    copied = 0
    for key, tensor in source.tensors.items():
        if only and not any(key.startswith(f"{name}.") for name in only):
            continue
        is_head = key.startswith("scores.")
        if is_head and not shared:
            continue
        first = 1 if is_head else 0  # the number of a head's outputs follows from its classes
        if state[key].shape[first:] != tensor.shape[first:]:
            raise ValueError(
                f"pretrained tensor '{key}' has shape {tuple(tensor.shape)}, the network's has "
                f"{tuple(state[key].shape)}: is --width {model.config.width} the width of that "
                "file?"
            )
        if is_head:
            class_heads.copy_shared(state[key], classes, tensor, source.classes or ())
        else:
            state[key].copy_(tensor)
        copied += 1
    if not copied:
        raise ValueError(f"no pretrained tensors in the layers {', '.join(only)}")
    return copied


def zero_init_heads(model: SSD) -> None:
    """Sets the heads' kernels to zero: equal class probabilities and zero offsets everywhere.

    Random heads do not fit the scale of the features below them. On VGG16 their logits differ so
    much that the loss starts five times too high, and its first gradients spoil the pretrained
    layers.
    """
    for head in (*model.scores, *model.offsets):
        nn.init.zeros_(head.weight)


def freeze(model: SSD, frozen: Sequence[str]) -> list[nn.Module]:
    """Excludes layers from training.

    Returns:
        The layers: a trainer keeps them in evaluation mode, so that their batch statistics stay.
    """
    modules = [model.get_submodule(name) for name in frozen]
    for module in modules:
        module.requires_grad_(False)
    return modules
