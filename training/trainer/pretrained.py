# SPDX-License-Identifier: Apache-2.0
"""Pretrained weights: a backbone, or another detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ssd_ros.model.config import PAPER_VOC, RESNET50, SSDConfig
from ssd_ros.model.ssd import SSD
from ssd_ros.weights import reader, resnet50
from ssd_ros.weights.containers import Arrays, open_file
from ssd_ros.weights.layouts import ml_rover
from ssd_ros.weights.names import resolve
from ssd_ros.weights.weights import WeightsError
from training.trainer import batch_norm

IMAGENET_MEAN, IMAGENET_STD = RESNET50.mean, RESNET50.std
VGG16_DOWNLOAD, RESNET50_DOWNLOAD = "vgg16", "resnet50"

# torchvision's vgg16().features counts pooling and ReLU, too.
_VGG16_LAYERS = {
    **{f"conv1.{i}": n for i, n in ((1, 0), (2, 2))},
    **{f"conv2.{i}": n for i, n in ((1, 5), (2, 7))},
    **{f"conv3.{i}": n for i, n in ((1, 10), (2, 12), (3, 14))},
    **{f"conv4.{i}": n for i, n in ((1, 17), (2, 19), (3, 21))},
    **{f"conv5.{i}": n for i, n in ((1, 24), (2, 26), (3, 28))},
}
_RESNET50_LAYERS = resnet50.names(RESNET50)


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
            `ssd_ros.weights.reader` reads.

    Raises:
        WeightsError: the file cannot be used.
    """
    if source == VGG16_DOWNLOAD:
        from torchvision.models import VGG16_Weights

        state_dict = VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)
        return _from_vgg16(dict(state_dict))
    if source == RESNET50_DOWNLOAD:
        from torchvision.models import ResNet50_Weights

        state_dict = ResNet50_Weights.IMAGENET1K_V2.get_state_dict(progress=True, check_hash=True)
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
        weights = reader.parse(header, load)
    except ValueError as error:
        raise WeightsError(f"weights file '{path}': {error}") from None
    tensors = weights.model().state_dict() | _to_torch(normalised)
    return Pretrained(tensors, weights.config, weights.classes)


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
    """Names of a network's layers from a comma-separated list.

    Raises:
        ValueError: unknown layer.
    """
    chosen = tuple(name.strip() for name in names.split(",") if name.strip())
    known = [name for name, _ in model.named_children()]
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ValueError(f"unknown layer '{unknown[0]}'; layers: {', '.join(known)}")
    return chosen


def apply(model: SSD, source: Pretrained, classes: Sequence[str], only: Sequence[str] = ()) -> int:
    """Copies tensors into a network; the class heads only where the classes are the same.

    Args:
        model: the network, with or without batch normalisation.
        source: where they come from.
        classes: class names of the network.
        only: names of the layers to copy; empty for all.

    Returns:
        The number of tensors copied.

    Raises:
        ValueError: a tensor has another shape, or no tensor is in the chosen layers.
    """
    state = model.state_dict()
    copied = 0
    for key, tensor in source.tensors.items():
        layer = key.split(".")[0]
        if (only and layer not in only) or (layer == "scores" and source.classes != tuple(classes)):
            continue
        if state[key].shape != tensor.shape:
            raise ValueError(
                f"pretrained tensor '{key}' has shape {tuple(tensor.shape)}, the network's has "
                f"{tuple(state[key].shape)}: is --width {model.config.width} the width of that "
                "file?"
            )
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
    modules = [module for name, module in model.named_children() if name in frozen]
    for module in modules:
        module.requires_grad_(False)
    return modules
