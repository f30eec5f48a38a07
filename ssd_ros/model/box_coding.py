# SPDX-License-Identifier: Apache-2.0
"""Boxes as offsets from default boxes, and back.

Default boxes are centre x, centre y, width, height as fractions of the image; boxes are
corners x1 y1 x2 y2 on the same scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_convert

from ssd_ros.model.config import MAX_LOG_GROWTH, VARIANCES


def encode(boxes: Tensor, defaults: Tensor, variances: Sequence[float] = VARIANCES) -> Tensor:
    """Offsets that turn default boxes into boxes (arXiv 1512.02325, equation 2).

    Args:
        boxes: (..., 4) corners as fractions, of positive width and height.
        defaults: (..., 4) default boxes; the shapes broadcast.
        variances: divisors of the centre's and the size's offsets.

    Returns:
        (..., 4) offsets of centre x, centre y, log width and log height over the variances.
    """
    target = box_convert(boxes, "xyxy", "cxcywh")
    centre = (target[..., :2] - defaults[..., :2]) / (defaults[..., 2:] * variances[0])
    size = torch.log(target[..., 2:] / defaults[..., 2:]) / variances[1]
    return torch.cat((centre, size), dim=-1)


def decode(offsets: Tensor, defaults: Tensor, variances: Sequence[float] = VARIANCES) -> Tensor:
    """Boxes that offsets stand for: the inverse of `encode`, finite for finite offsets.

    Args:
        offsets: (..., 4) as `encode` returns them.
        defaults: (..., 4) default boxes; the shapes broadcast.
        variances: as for `encode`.

    Returns:
        (..., 4) corners as fractions; they may lie outside the image.
    """
    centre = defaults[..., :2] + offsets[..., :2] * variances[0] * defaults[..., 2:]
    growth = (offsets[..., 2:] * variances[1]).clamp(max=MAX_LOG_GROWTH).exp()
    half = 0.5 * defaults[..., 2:] * growth
    return torch.cat((centre - half, centre + half), dim=-1)
