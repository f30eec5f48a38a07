# SPDX-License-Identifier: Apache-2.0
"""The state dict of torchvision.models.detection.ssd300_vgg16."""

from __future__ import annotations

from ssd_ros.model import class_names
from ssd_ros.model.config import TORCHVISION
from ssd_ros.weights.layouts.renamed import VGG16_PLACES, Renamed

FAMILY = "torchvision's ssd300_vgg16"
MARK = "the tensors of torchvision's ssd300_vgg16"

_LAYOUT = Renamed(
    FAMILY,
    layers={
        **{
            ours: f"backbone.features.{place}"
            for ours, place in VGG16_PLACES.items()
            if ours < "conv5"
        },
        **{f"conv5.{i}": f"backbone.extra.0.{n}" for i, n in ((1, 1), (2, 3), (3, 5))},
        **{"conv6.0": "backbone.extra.0.7.1", "conv7.0": "backbone.extra.0.7.3"},
        **{
            f"conv{8 + k}.{i}": f"backbone.extra.{1 + k}.{2 * i - 2}"
            for k in range(4)
            for i in (1, 2)
        },
    },
    norm="backbone.scale_weight",
    scores="head.classification_head.module_list.{}",
    offsets="head.regression_head.module_list.{}",
    config=lambda classes: TORCHVISION,
    # Its COCO weights have an output for each number of a category, the gaps included.
    class_names={20: class_names.VOC, 90: class_names.COCO},
)
inspect, convert = _LAYOUT.inspect, _LAYOUT.convert
