# SPDX-License-Identifier: Apache-2.0
"""Matching of default boxes to objects, and the MultiBox loss (arXiv 1512.02325, section 2.2).

The whole batch at once. Matching depends on the annotations alone and the loss on what it found, so
that a trainer can count the matches of several batches or processes before it divides by them.

On the same scores, offsets and targets the loss equals torchvision's `SSD.compute_loss`, but for:
  - an image without a matched box: torchvision takes nothing from it; here it gives its
    `EMPTY_IMAGE_NEGATIVES` hardest negatives, or images of nothing would teach nothing;
  - an image where three times the matches exceed the boxes left: torchvision counts matched boxes
    a second time; here all the others are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_convert

from ssd_ros.model.box_coding import VARIANCES, encode

MATCH_IOU = 0.5
NEGATIVES_PER_POSITIVE = 3
EMPTY_IMAGE_NEGATIVES = 3


@dataclass(frozen=True)
class Matches:
    """What each default box is to learn.

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


def match(boxes: Tensor, labels: Tensor, defaults: Tensor) -> Matches:
    """Matches default boxes to objects.

    Each object gets the default box that it overlaps most, even by little; each default box left
    gets the object that it overlaps most, if by `MATCH_IOU` or more. Where two objects have the
    same best default box, the later one gets it.

    Args:
        boxes: float32 (B, M, 4), x1 y1 x2 y2 as fractions, of positive width and height.
        labels: int64 (B, M), 0-based class; -1 where an image has fewer than M objects.
        defaults: float32 (N, 4), cx cy w h as fractions.
    """
    images, most = labels.shape
    classes = torch.zeros(images, len(defaults), dtype=torch.int64, device=labels.device)
    if not most:
        return Matches(classes, boxes.new_zeros(0, 4))
    real = labels >= 0
    overlaps = _iou(boxes, box_convert(defaults, "cxcywh", "xyxy"))  # (B, M, N)
    overlaps = overlaps.masked_fill(~real[..., None], -1.0)

    overlap, owner = overlaps.max(dim=1)  # (B, N)
    owner = owner.where(overlap >= MATCH_IOU, -1)
    best_default = overlaps.argmax(dim=2)  # (B, M)
    objects = torch.arange(most, device=labels.device).expand_as(labels).where(real, -1)
    forced = torch.full_like(owner, -1).scatter_reduce(1, best_default, objects, "amax")
    owner = forced.where(forced >= 0, owner)

    image, default = (owner >= 0).nonzero(as_tuple=True)
    owner = owner[image, default]
    classes[image, default] = labels[image, owner] + 1
    return Matches(classes, boxes[image, owner])


def _iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of (B, M, 4) boxes with (N, 4) others: (B, M, N)."""
    boxes = boxes[:, :, None]
    sides = torch.minimum(boxes[..., 2:], others[:, 2:]) - torch.maximum(
        boxes[..., :2], others[:, :2]
    )
    common = sides.clamp_(min=0).prod(dim=-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)
    return common / (area + (others[:, 2:] - others[:, :2]).prod(dim=-1) - common)


def multibox_loss(
    scores: Tensor,
    offsets: Tensor,
    matches: Matches,
    defaults: Tensor,
    variances: Sequence[float] = VARIANCES,
) -> tuple[Tensor, Tensor]:
    """The two sums of equation 1, to be divided by the number of matched boxes.

    Computed in float32 whatever the type of the inputs and under any autocast.

    Args:
        scores: (B, N, 1 + C) before the softmax, background first.
        offsets: (B, N, 4).
        matches: of the same batch.
        defaults: float32 (N, 4).
        variances: of the offsets, from the network's configuration.

    Returns:
        Sum of the cross entropies of matched boxes and of the hardest negatives, three of them a
        match in each image; sum of the smooth L1 of the matched boxes' offsets. float32 scalars.
    """
    with torch.autocast(scores.device.type, enabled=False):
        scores, offsets = scores.float(), offsets.float()
        image, default = matches.classes.nonzero(as_tuple=True)
        wanted = encode(matches.boxes, defaults[default], variances)
        location = F.smooth_l1_loss(offsets[image, default], wanted, reduction="sum")

        entropy = F.cross_entropy(scores.flatten(0, 1), matches.classes.flatten(), reduction="none")
        entropy = entropy.view_as(matches.classes)
        positive = matches.classes > 0
        count = positive.sum(dim=1, keepdim=True)
        wanted_negatives = torch.where(
            count > 0, NEGATIVES_PER_POSITIVE * count, EMPTY_IMAGE_NEGATIVES
        )
        # Entropies are at least 0, so matched boxes sort behind every negative.
        hardest = entropy.masked_fill(positive, -1.0).sort(dim=1, descending=True).values
        rank = torch.arange(hardest.shape[1], device=hardest.device)
        taken = (rank < wanted_negatives) & (hardest >= 0)
        classification = entropy[positive].sum() + hardest[taken].sum()
    return classification, location
