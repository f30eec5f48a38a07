# SPDX-License-Identifier: Apache-2.0
"""The state dict of SSD300 in amdegroot/ssd.pytorch, from which many other projects are derived."""

from __future__ import annotations

from dataclasses import replace

from ssd_ros.model import class_names
from ssd_ros.model.config import COCO_SCALES, PAPER_VOC, SSDConfig, ssd300_maps
from ssd_ros.weights.layouts.renamed import EXTRAS, VGG16_PLACES, Renamed

FAMILY = "amdegroot/ssd.pytorch's SSD300"
MARK = "those of amdegroot/ssd.pytorch"

VOC = replace(PAPER_VOC, clip="centre_and_size", nms="before_clipping")
COCO = replace(VOC, feature_maps=ssd300_maps(COCO_SCALES))
# Its network for COCO has 201 outputs, of which training uses the first 81.
_UNUSED = [f"unused {number}" for number in range(81, 201)]


def _config(classes: int) -> SSDConfig:
    """As its own code chooses: everything that is not VOC has COCO's default boxes."""
    return VOC if classes == 20 else COCO


_LAYOUT = Renamed(
    FAMILY,
    layers={
        **{ours: f"vgg.{place}" for ours, place in VGG16_PLACES.items()},
        **{ours: f"extras.{place}" for place, ours in enumerate(EXTRAS)},
    },
    norm="L2Norm.weight",
    scores="conf.{}",
    offsets="loc.{}",
    config=_config,
    class_names={
        20: class_names.VOC,
        80: class_names.COCO_80,
        200: class_names.COCO_80 + _UNUSED,
    },
)
inspect, convert = _LAYOUT.inspect, _LAYOUT.convert
