# SPDX-License-Identifier: Apache-2.0
"""The state dict of SSD300 in mmdetection, as its versions since 2.14 write it."""

from __future__ import annotations

from dataclasses import replace

from ssd_ros.model import class_names
from ssd_ros.model.config import COCO_SCALES, PAPER_VOC, SSDConfig, ssd300_maps
from ssd_ros.weights.containers import Header
from ssd_ros.weights.layout import Mismatch
from ssd_ros.weights.layouts.renamed import EXTRAS, VGG16_PLACES, Renamed

FAMILY = "mmdetection's SSD300"
MARK = "those of mmdetection"

VOC = replace(PAPER_VOC, mean=(123.675 / 255, 116.28 / 255, 103.53 / 255))
COCO = replace(VOC, feature_maps=ssd300_maps(COCO_SCALES))
_BEFORE_2_14 = ("backbone.extra.0.weight", "backbone.l2_norm.weight", "bbox_head.cls_convs.0.bias")


def _config(classes: int) -> SSDConfig:
    """COCO's default boxes are its defaults, which its configuration for VOC replaces."""
    return VOC if classes == 20 else COCO


_LAYOUT = Renamed(
    FAMILY,
    layers={
        **{ours: f"backbone.features.{place}" for ours, place in VGG16_PLACES.items()},
        **{
            ours: f"neck.extra_layers.{place // 2}.{place % 2}.conv"
            for place, ours in enumerate(EXTRAS)
        },
    },
    norm="neck.l2_norm.weight",
    scores="bbox_head.cls_convs.{}.0",
    offsets="bbox_head.reg_convs.{}.0",
    config=_config,
    class_names={20: class_names.VOC, 80: class_names.COCO_80},
    background_last=True,
)
convert = _LAYOUT.convert


def inspect(header: Header) -> Mismatch | None:
    """See `Layout.inspect`."""
    if all(key in header.shapes for key in _BEFORE_2_14):
        # Versions 1 and 2 had the same names, but the background in different places.
        return Mismatch(
            FAMILY,
            matching=len(header.shapes),
            hint="was written by a version before 2.14, whose files do not tell the order of "
            "classes: convert it with mmdetection's tools/model_converters "
            "(upgrade_model_version.py if it is of version 1, then upgrade_ssd_version.py)",
        )
    return _LAYOUT.inspect(header)
