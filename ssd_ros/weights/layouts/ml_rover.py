# SPDX-License-Identifier: Apache-2.0
"""The state dict of the SSD300 with ResNet-50 in adrirubio/ml-rover.

Of its training script from commit 2598d01 on, as `ssd_weights.pth`: that file's inference script
reads the same names. Earlier scripts have other networks, and no published weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ssd_ros.model import class_names as known_names
from ssd_ros.model.config import RESNET50, FeatureMap
from ssd_ros.model.default_boxes import default_boxes
from ssd_ros.model.layers import Shape, tensor_shapes
from ssd_ros.weights import resnet50
from ssd_ros.weights.containers import Arrays, Header
from ssd_ros.weights.layout import Mismatch, UnnamedClassesError, check_count, compare
from ssd_ros.weights.weights import Weights, check_class_names

FAMILY = "ml-rover's SSD300 with ResNet-50"
MARK = "those of ml-rover"

_SCALES = (0.2, 0.34, 0.48, 0.62, 0.76, 0.9, 1.0)


def _maps() -> tuple[FeatureMap, ...]:
    """Six boxes a cell; the ratios 2 and 1/2 make the same two boxes, in the other order."""
    maps = []
    for k, feature_map in enumerate(RESNET50.feature_maps):
        side, larger = _SCALES[k], math.sqrt(_SCALES[k] * _SCALES[k + 1])
        # No wider or higher than the image, and then cut to it where they stand (`clip`).
        long, short = min(side * math.sqrt(2), 1.0), side / math.sqrt(2)
        sizes = [(side, side), (larger, larger)]
        sizes += [(long, short), (short, long), (short, long), (long, short)]
        maps.append(FeatureMap(feature_map.cells, 300 / feature_map.cells, tuple(sizes)))
    return tuple(maps)


CONFIG = replace(RESNET50, feature_maps=_maps(), clip="corners")
_BASE = resnet50.names(CONFIG, ("stage1.0", "stage1.1"), ("stage1.4", "stage2", "stage3", "stage4"))
_LAYERS = {
    **{"conv6.1": "extra1.0", "conv6.2": "extra1.2", "conv7.1": "extra2.0", "conv7.2": "extra2.2"},
    "conv8.1": "extra3.0",
    **{f"scores.{k}": f"conf_layers.{k}" for k in range(6)},
    **{f"offsets.{k}": f"loc_layers.{k}" for k in range(6)},
}
_KEYS = {"norm3.scale": "l2norm.weight"} | {
    f"{ours}.{part}": f"{theirs}.{part}"
    for ours, theirs in _LAYERS.items()
    for part in ("weight", "bias")
}
_BOXES = ("default_boxes", "default_boxes_xyxy")
_TOLERANCE = 1e-4  # of the default boxes in the file, as fractions of the image


def inspect(header: Header) -> Mismatch | None:
    """See `Layout.inspect`; any number of classes will do."""
    classes = max(_classes(header), 1)
    return compare(FAMILY, header.shapes, _shapes(classes), f"for {classes} classes")


def convert(tensors: Arrays, header: Header, class_names: Sequence[str] | None) -> Weights:
    """See `Layout.convert`; the batch normalisation is folded into the convolutions.

    Raises:
        ValueError: also where the file's default boxes are others than those of the family.
    """
    classes = _classes(header)
    if class_names is None and classes == len(known_names.VOC):
        class_names = known_names.VOC
    if class_names is None:
        raise UnnamedClassesError(classes)
    check_count(class_names, classes)
    _check_boxes(tensors)
    arrays = {ours: tensors[theirs] for ours, theirs in _KEYS.items()}
    for ours, name in _BASE.items():
        arrays[f"{ours}.weight"], arrays[f"{ours}.bias"] = resnet50.fold(tensors, name)
    bfloat16 = frozenset(ours for ours, theirs in _KEYS.items() if theirs in header.bfloat16)
    return Weights(
        arrays,
        check_class_names(list(class_names)),
        CONFIG,
        {"implementation": FAMILY},
        bfloat16=bfloat16,
    )


def unfolded(tensors: Arrays) -> Arrays:
    """The base network of a file with its batch normalisation, as a training has it."""
    return resnet50.unfolded(tensors, _BASE)


def _shapes(classes: int) -> dict[str, Shape]:
    """Names and shapes of the state dict."""
    ours = tensor_shapes(CONFIG, classes)
    shapes: dict[str, Shape] = {theirs: ours[key] for key, theirs in _KEYS.items()}
    for key, name in _BASE.items():
        shapes[f"{name.conv}.weight"] = ours[f"{key}.weight"]
        parts = dict.fromkeys(resnet50.NORM_PARTS, ours[f"{key}.bias"]) | {resnet50.COUNTER: ()}
        shapes |= {f"{name.norm}.{part}": shape for part, shape in parts.items()}
    return shapes | dict.fromkeys(_BOXES, (CONFIG.box_count, 4))


def _check_boxes(tensors: Arrays) -> None:
    centres, sizes = np.split(default_boxes(CONFIG), 2, axis=1)
    expected = np.concatenate((centres - sizes / 2, centres + sizes / 2), axis=1)
    difference = np.abs(tensors[_BOXES[1]] - expected).max()
    if difference > _TOLERANCE:
        raise ValueError(
            f"tensor '{_BOXES[1]}' differs by {difference:.2g} from the default boxes of ml-rover, "
            f"expected at most {_TOLERANCE:g}"
        )


def _classes(header: Header) -> int:
    """Classes without the background, by the size of the first head; 0 where it is missing."""
    shape = header.shapes.get(_KEYS["scores.0.bias"], ())
    return shape[0] // CONFIG.boxes_per_cell[0] - 1 if len(shape) == 1 else 0
