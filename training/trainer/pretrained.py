# SPDX-License-Identifier: Apache-2.0
"""What a training starts from: a trained base network, another detector, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from ssd_ros.model.config import PAPER_VOC, SSDConfig
from ssd_ros.model.ssd import SSD300
from ssd_ros.weights import reader
from ssd_ros.weights.weights import WeightsError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
VGG16_DOWNLOAD = "vgg16"

# torchvision's vgg16().features counts pooling and ReLU, too.
_VGG16_LAYERS = {
    **{f"conv1.{i}": n for i, n in ((1, 0), (2, 2))},
    **{f"conv2.{i}": n for i, n in ((1, 5), (2, 7))},
    **{f"conv3.{i}": n for i, n in ((1, 10), (2, 12), (3, 14))},
    **{f"conv4.{i}": n for i, n in ((1, 17), (2, 19), (3, 21))},
    **{f"conv5.{i}": n for i, n in ((1, 24), (2, 26), (3, 28))},
}


@dataclass(frozen=True)
class Start:
    """Tensors to start from.

    Attributes:
        tensors: keys of SSD300's state dict, not necessarily all of them.
        config: default boxes and input normalisation that they were trained with.
        classes: of the heads, None where there are no heads.
    """

    tensors: dict[str, Tensor]
    config: SSDConfig
    classes: tuple[str, ...] | None = None


def read(source: str) -> Start:
    """Reads what `--init` names.

    Args:
        source: `vgg16` (torchvision's ImageNet weights, downloaded), a file of VGG16 features with
            torchvision's keys, or any weights file that `ssd_ros.weights.weights` reads.

    Raises:
        WeightsError: the file cannot be used.
    """
    if source == VGG16_DOWNLOAD:
        from torchvision.models import VGG16_Weights

        found = VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)
        return _from_vgg16(dict(found))
    path = Path(source)
    found = reader.load_tensors(path)
    if "features.0.weight" in found:
        try:
            return _from_vgg16(found)
        except KeyError as error:
            raise WeightsError(
                f"weights file '{path}': is of VGG16 features, but lacks {error}"
            ) from None
    weights = reader.read(path)
    return Start(weights.model().state_dict(), weights.config, weights.classes)


def _from_vgg16(found: dict[str, Tensor]) -> Start:
    tensors = {
        f"{layer}.{part}": found[f"features.{number}.{part}"].float()
        for layer, number in _VGG16_LAYERS.items()
        for part in ("weight", "bias")
    }
    return Start(tensors, replace(PAPER_VOC, mean=IMAGENET_MEAN, std=IMAGENET_STD))


def layers(names: str) -> tuple[str, ...]:
    """Names of SSD300's layers, given joined by commas.

    Raises:
        ValueError: there is no such layer.
    """
    wanted = tuple(name.strip() for name in names.split(",") if name.strip())
    unknown = [name for name in wanted if name not in LAYERS]
    if unknown:
        raise ValueError(f"there is no layer '{unknown[0]}'; layers are {', '.join(LAYERS)}")
    return wanted


LAYERS = (*(f"conv{i}" for i in range(1, 12)), "norm4", "scores", "offsets")


def apply(model: SSD300, start: Start, classes: Sequence[str], only: Sequence[str] = ()) -> int:
    """Copies tensors into a network; class scores only where the classes are the same.

    Args:
        model: the network, with or without batch normalisation.
        start: where from.
        classes: of the network.
        only: layers to copy; empty for all.

    Returns:
        The number of tensors copied.

    Raises:
        ValueError: a tensor has another shape, or nothing is left to copy.
    """
    state = model.state_dict()
    copied = 0
    for key, tensor in start.tensors.items():
        layer = key.split(".")[0]
        if (only and layer not in only) or (layer == "scores" and start.classes != tuple(classes)):
            continue
        if state[key].shape != tensor.shape:
            raise ValueError(
                f"tensor '{key}' to start from has shape {tuple(tensor.shape)}, the network's has "
                f"{tuple(state[key].shape)}: is --width {model.config.width} the width of that "
                "file?"
            )
        state[key].copy_(tensor)
        copied += 1
    if not copied:
        raise ValueError(f"nothing to start from in the layers {', '.join(only)}")
    return copied


def quiet_heads(model: SSD300) -> None:
    """Lets a new network start without an opinion: no class preferred, every offset zero.

    Random heads do not know the scale of the features under them. On VGG16's their scores are so
    far apart that the loss starts five times too high, and its first gradients spoil the layers
    that were trained already.
    """
    for head in (*model.scores, *model.offsets):
        nn.init.zeros_(head.weight)


def freeze(model: SSD300, frozen: Sequence[str]) -> list[nn.Module]:
    """Keeps layers as they are; returns them, so that their batch statistics stay, too."""
    modules = [module for name, module in model.named_children() if name in frozen]
    for module in modules:
        module.requires_grad_(False)
    return modules
