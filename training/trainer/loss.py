# SPDX-License-Identifier: Apache-2.0
"""Matching of default boxes to objects, and the MultiBox loss (arXiv 1512.02325, section 2.2).

The whole batch at once. Matching needs only the annotations, so that a trainer can count the
matches of several batches or processes before it divides the loss by them.

On the same logits, offsets and targets the loss equals torchvision's `SSD.compute_loss`, except:
  - an image without a matched box: torchvision ignores it; here its `EMPTY_IMAGE_NEGATIVES`
    hardest negatives count, so that images without objects reduce false positives;
  - an image where three times the matches exceed the boxes left: torchvision counts matched boxes
    a second time; here all the others count once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_convert

from ssd_ros.model.box_coding import encode
from ssd_ros.model.config import VARIANCES

MATCH_IOU = 0.5
NEGATIVES_PER_POSITIVE = 3
EMPTY_IMAGE_NEGATIVES = 3
_MAX_OVERLAPS = 2**22  # of objects and default boxes at once: 16 MB in each temporary tensor


@dataclass(frozen=True)
class Targets:
    """What each default box learns.

    Attributes:
        classes: int64 (B, N), 0 for the background, else 1 + the index of the class.
        boxes: float32 (P, 4), the object of each matched default box in the order of
            `classes.nonzero()`: x1 y1 x2 y2 as fractions.
    """

    classes: Tensor
    boxes: Tensor

    @property
    def positives(self) -> int:
        """Matched default boxes of the batch."""
        return len(self.boxes)


def match(boxes: Tensor, labels: Tensor, defaults: Tensor) -> Targets:
    """Matches default boxes to objects.

    Each object gets the default box that it overlaps most, however little; each remaining
    default box gets the object that it overlaps most, if the IoU is `MATCH_IOU` or more. Where
    two objects have the same best default box, the later one gets it.

    Args:
        boxes: float32 (B, M, 4), x1 y1 x2 y2 as fractions, of positive width and height.
        labels: int64 (B, M), 0-based class; -1 where an image has fewer than M objects.
        defaults: float32 (N, 4), cx cy w h as fractions.
    """
    images, most = labels.shape
    others = box_convert(defaults, "cxcywh", "xyxy")
    overlap = boxes.new_full((images, len(defaults)), -1.0)
    owner = torch.full_like(overlap, -1, dtype=torch.int64)
    forced = owner.clone()
    # In parts: the overlaps of all objects at once would need gigabytes for some thousand of them.
    part = max(1, _MAX_OVERLAPS // owner.numel())
    for first in range(0, most, part):
        objects = torch.arange(first, min(first + part, most), device=labels.device)
        real = labels[:, objects] >= 0
        overlaps = _iou(boxes[:, objects, None], others)  # (B, part, N)
        overlaps.masked_fill_(~real[..., None], -1.0)
        highest, position = overlaps.max(dim=1)  # (B, N)
        owner = owner.where(highest <= overlap, position + first)
        overlap = overlap.maximum(highest)
        best_default = overlaps.argmax(dim=2)  # (B, part)
        numbers = objects.expand_as(real).where(real, -1)
        forced = forced.scatter_reduce(1, best_default, numbers, "amax")
    owner = owner.where(overlap >= MATCH_IOU, -1)
    owner = forced.where(forced >= 0, owner)

    classes = torch.zeros_like(owner)
    image, default = (owner >= 0).nonzero(as_tuple=True)
    owner = owner[image, default]
    classes[image, default] = labels[image, owner] + 1
    return Targets(classes, boxes[image, owner])


def multibox_loss(
    logits: Tensor,
    offsets: Tensor,
    targets: Targets,
    defaults: Tensor,
    variances: Sequence[float] = VARIANCES,
) -> tuple[Tensor, Tensor]:
    """The two sums of equation 1, to be divided by the number of matched boxes.

    Computed in float32 whatever the type of the inputs and under any autocast.

    Args:
        logits: (B, N, 1 + C) class scores before the softmax, background first.
        offsets: (B, N, 4) from the default boxes.
        targets: of the same batch.
        defaults: float32 (N, 4), cx cy w h as fractions.
        variances: of the offsets, from the network's configuration.

    Returns:
        float32 scalars: the sum of the cross entropies of matched boxes and of the hardest
        negatives, three per match in each image; the sum of the smooth L1 of the matched boxes'
        offsets.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits, offsets = logits.float(), offsets.float()
        image, default = targets.classes.nonzero(as_tuple=True)
        target_offsets = encode(targets.boxes, defaults[default], variances)
        location = F.smooth_l1_loss(offsets[image, default], target_offsets, reduction="sum")

        entropy = F.cross_entropy(logits.flatten(0, 1), targets.classes.flatten(), reduction="none")
        entropy = entropy.view_as(targets.classes)
        positive = targets.classes > 0
        count = positive.sum(dim=1, keepdim=True)
        negatives = torch.where(count > 0, NEGATIVES_PER_POSITIVE * count, EMPTY_IMAGE_NEGATIVES)
        # Entropies are at least 0, so matched boxes sort behind every negative.
        hardest = entropy.masked_fill(positive, -1.0).sort(dim=1, descending=True).values
        rank = torch.arange(hardest.shape[1], device=hardest.device)
        taken = (rank < negatives) & (hardest >= 0)
        classification = entropy[positive].sum() + hardest[taken].sum()
    return classification, location


def _iou(boxes: Tensor, others: Tensor) -> Tensor:
    """`ssd_ros.model.boxes.iou` for tensors on any device, in their precision.

    torchvision's `box_iou` does not broadcast in older releases.
    """
    left, top = (torch.maximum(boxes[..., i], others[..., i]) for i in (0, 1))
    right, bottom = (torch.minimum(boxes[..., i], others[..., i]) for i in (2, 3))
    intersection = (right - left).clamp_(min=0).mul_((bottom - top).clamp_(min=0))
    union = _area(boxes) + _area(others) - intersection
    return intersection / union.clamp_(min=torch.finfo(union.dtype).tiny)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(
        min=0
    )
