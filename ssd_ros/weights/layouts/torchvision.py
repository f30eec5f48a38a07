# SPDX-License-Identifier: Apache-2.0
"""State dicts of other SSD300 implementations, in the names of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ssd_ros.model import class_names
from ssd_ros.model.config import TORCHVISION

_LAYERS = {
    **{f"conv1.{i}": f"backbone.features.{n}" for i, n in ((1, 0), (2, 2))},
    **{f"conv2.{i}": f"backbone.features.{n}" for i, n in ((1, 5), (2, 7))},
    **{f"conv3.{i}": f"backbone.features.{n}" for i, n in ((1, 10), (2, 12), (3, 14))},
    **{f"conv4.{i}": f"backbone.features.{n}" for i, n in ((1, 17), (2, 19), (3, 21))},
    **{f"conv5.{i}": f"backbone.extra.0.{n}" for i, n in ((1, 1), (2, 3), (3, 5))},
    "conv6.0": "backbone.extra.0.7.1",
    "conv7.0": "backbone.extra.0.7.3",
    **{f"conv{8 + k}.{i}": f"backbone.extra.{1 + k}.{2 * i - 2}" for k in range(4) for i in (1, 2)},
    **{f"scores.{k}": f"head.classification_head.module_list.{k}" for k in range(6)},
    **{f"offsets.{k}": f"head.regression_head.module_list.{k}" for k in range(6)},
}
_KEYS = {
    "norm4.scale": "backbone.scale_weight",
    **{
        f"{ours}.{part}": f"{theirs}.{part}"
        for ours, theirs in _LAYERS.items()
        for part in ("weight", "bias")
    },
}


def is_torchvision(found: Mapping[str, Tensor]) -> bool:
    """Whether tensors are of torchvision's ssd300_vgg16, to judge by its last layers."""
    return _KEYS["scores.0.bias"] in found


def from_torchvision(
    found: Mapping[str, Tensor], classes: Sequence[str] | None
) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors of torchvision's ssd300_vgg16 under our names, and the names of its classes.

    Tensors that it does not have keep their names, to be found out where ours are checked.

    Args:
        found: its state dict, for any number of classes.
        classes: names without the background; None for torchvision's 21 (VOC) and 91 (COCO).

    Raises:
        ValueError: the names are missing, or not as many as the network has.
    """
    outputs = found[_KEYS["scores.0.bias"]].numel() // TORCHVISION.boxes_per_cell[0]
    if classes is None:
        classes = {21: class_names.VOC, 91: class_names.COCO}.get(outputs)
    if classes is None:
        raise ValueError(
            f"has {outputs - 1} classes and no names for them; convert it: python -m "
            "ssd_ros.weights.weights convert SRC DST --classes NAME NAME …"
        )
    if len(classes) != outputs - 1:
        raise ValueError(
            f"has {outputs - 1} classes besides the background, got {len(classes)} names: "
            + ", ".join(classes)
        )
    to_ours = {theirs: ours for ours, theirs in _KEYS.items()}
    return {to_ours.get(key, key): tensor for key, tensor in found.items()}, list(classes)
