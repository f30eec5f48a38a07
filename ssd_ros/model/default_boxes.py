# SPDX-License-Identifier: Apache-2.0
"""The default boxes of SSD300, and boxes as offsets from them.

Default boxes are centre x, centre y, width, height as fractions of the image; boxes are
corners x1 y1 x2 y2 on the same scale.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.ops import box_convert

from ssd_ros.model.config import FEATURE_MAPS, INPUT_SIZE, SSDConfig

CENTRE_VARIANCE = 0.1
SIZE_VARIANCE = 0.2
# No default box needs to grow by more than this; beyond it exp() would only overflow.
MAX_LOG_GROWTH = math.log(1000 / 16)


def default_boxes(config: SSDConfig) -> Tensor:
    """The default boxes of a variant, in the order of the network's outputs.

    Maps run from the finest to the coarsest, cells along the rows of a map; in a cell come the
    square, the larger square, then for each aspect ratio the wide box and the tall one
    (arXiv 1512.02325, section 2.2).

    Returns:
        float32 tensor (N, 4), N = 8,732 for the paper's ratios: cx, cy, w, h as fractions.
    """
    return torch.cat(
        [
            _map_boxes(cells, config.steps[k], _cell_sizes(config, k))
            for k, cells in enumerate(FEATURE_MAPS)
        ]
    ).float()


def _cell_sizes(config: SSDConfig, k: int) -> Tensor:
    """Widths and heights of the boxes in one cell of map k, float64 (A, 2)."""
    side = config.scales[k]
    larger = math.sqrt(side * config.scales[k + 1])
    sizes = [(side, side), (larger, larger)]
    for ratio in config.aspect_ratios[k]:
        wide, tall = side * math.sqrt(ratio), side / math.sqrt(ratio)
        sizes += [(wide, tall), (tall, wide)]
    boxes = torch.tensor(sizes, dtype=torch.float64)
    return boxes.clamp(max=1.0) if config.clip else boxes


def _map_boxes(cells: int, step: float, sizes: Tensor) -> Tensor:
    """Boxes of all cells of one map, float64 (cells * cells * A, 4)."""
    centres = (torch.arange(cells, dtype=torch.float64) + 0.5) * step / INPUT_SIZE
    cy, cx = torch.meshgrid(centres, centres, indexing="ij")
    centre = torch.stack((cx, cy), dim=-1).view(-1, 1, 2).expand(-1, len(sizes), 2)
    return torch.cat((centre, sizes.expand(len(centre), -1, -1)), dim=-1).view(-1, 4)


def encode(boxes: Tensor, defaults: Tensor) -> Tensor:
    """Offsets that turn default boxes into boxes (arXiv 1512.02325, equation 2).

    Args:
        boxes: (..., 4) corners as fractions, of positive width and height.
        defaults: (..., 4) default boxes; the shapes broadcast.

    Returns:
        (..., 4) offsets of centre x, centre y, log width and log height over the variances.
    """
    target = box_convert(boxes, "xyxy", "cxcywh")
    centre = (target[..., :2] - defaults[..., :2]) / (defaults[..., 2:] * CENTRE_VARIANCE)
    size = torch.log(target[..., 2:] / defaults[..., 2:]) / SIZE_VARIANCE
    return torch.cat((centre, size), dim=-1)


def decode(offsets: Tensor, defaults: Tensor) -> Tensor:
    """Boxes that offsets stand for: the inverse of `encode`, finite for finite offsets.

    Args:
        offsets: (..., 4) as `encode` returns them.
        defaults: (..., 4) default boxes; the shapes broadcast.

    Returns:
        (..., 4) corners as fractions; they may lie outside the image.
    """
    centre = defaults[..., :2] + offsets[..., :2] * CENTRE_VARIANCE * defaults[..., 2:]
    growth = (offsets[..., 2:] * SIZE_VARIANCE).clamp(max=MAX_LOG_GROWTH).exp()
    half = 0.5 * defaults[..., 2:] * growth
    return torch.cat((centre - half, centre + half), dim=-1)
