# SPDX-License-Identifier: Apache-2.0
"""The state dict of torchvision.models.detection.ssd300_vgg16."""

from __future__ import annotations

from collections.abc import Sequence

from ssd_ros.model import class_names as known_names
from ssd_ros.model.config import TORCHVISION
from ssd_ros.model.layers import tensor_shapes
from ssd_ros.weights.containers import Arrays, Header
from ssd_ros.weights.layout import Mismatch, check_count, compare
from ssd_ros.weights.weights import Weights, check_class_names

FAMILY = "torchvision's ssd300_vgg16"
MARK = "the tensors of torchvision's ssd300_vgg16"

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


def inspect(header: Header) -> Mismatch | None:
    """See `Layout.inspect`; any number of classes will do."""
    classes = max(_classes(header), 1)
    expected = {_KEYS[key]: shape for key, shape in tensor_shapes(TORCHVISION, classes).items()}
    return compare(FAMILY, header.shapes, expected, f"for {classes} classes")


def convert(tensors: Arrays, header: Header, class_names: Sequence[str] | None) -> Weights:
    """See `Layout.convert`; torchvision's 21 (VOC) and 91 (COCO) outputs have known names."""
    classes = _classes(header)
    if class_names is None:
        class_names = {20: known_names.VOC, 90: known_names.COCO}.get(classes)
    if class_names is None:
        raise ValueError(
            f"has {classes} classes but no class names; convert it: python -m ssd_ros.weights "
            "convert SRC DST --classes NAME NAME …"
        )
    check_count(class_names, classes)
    bfloat16 = frozenset(ours for ours, theirs in _KEYS.items() if theirs in header.bfloat16)
    return Weights(
        {ours: tensors[theirs] for ours, theirs in _KEYS.items()},
        check_class_names(list(class_names)),
        TORCHVISION,
        bfloat16=bfloat16,
    )


def _classes(header: Header) -> int:
    """Classes without the background, by the size of the first head; 0 where it is missing."""
    shape = header.shapes.get(_KEYS["scores.0.bias"], ())
    return shape[0] // TORCHVISION.boxes_per_cell[0] - 1 if len(shape) == 1 else 0
