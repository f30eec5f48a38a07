# SPDX-License-Identifier: Apache-2.0
"""The state dict of SSD300 with VGG16 in lufficc/SSD."""

from __future__ import annotations

from ssd_ros.model import class_names
from ssd_ros.model.config import SSDConfig
from ssd_ros.weights.layouts import amdegroot
from ssd_ros.weights.layouts.renamed import EXTRAS, VGG16_PLACES, Renamed

FAMILY = "lufficc/SSD's SSD300"
MARK = "those of lufficc/SSD"


def _config(classes: int) -> SSDConfig:
    """VOC's default boxes are its defaults, which its configuration for COCO replaces.

    Normalisation, clipping and post-processing are those of amdegroot/ssd.pytorch.
    """
    return amdegroot.COCO if classes == 80 else amdegroot.VOC


_LAYOUT = Renamed(
    FAMILY,
    layers={
        **{ours: f"backbone.vgg.{place}" for ours, place in VGG16_PLACES.items()},
        **{ours: f"backbone.extras.{place}" for place, ours in enumerate(EXTRAS)},
    },
    norm="backbone.l2_norm.weight",
    scores="box_head.predictor.cls_headers.{}",
    offsets="box_head.predictor.reg_headers.{}",
    config=_config,
    class_names={20: class_names.VOC, 80: class_names.COCO_80},
)
inspect, convert = _LAYOUT.inspect, _LAYOUT.convert
