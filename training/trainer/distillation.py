# SPDX-License-Identifier: Apache-2.0
"""Learning from another network's outputs (knowledge distillation, arXiv 1503.02531)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ssd_ros.model.config import SSDConfig
from ssd_ros.model.ssd import SSD
from training.trainer import batch_norm, pretrained


def read_teacher(source: str, classes: Sequence[str], config: SSDConfig) -> SSD:
    """The teacher on the CPU, its class outputs in the order of the student's.

    Args:
        source: weights file.
        classes: class names of the student.
        config: of the student.

    Raises:
        ValueError: the file cannot be used, or has other classes or default boxes.
    """
    found = pretrained.read(source)
    if set(found.classes or ()) != set(classes):
        known = f"the classes {', '.join(found.classes)}" if found.classes else "no class heads"
        raise ValueError(f"--teacher '{source}' has {known}, the training has {', '.join(classes)}")
    for name in ("input_size", "clip", "variances"):
        theirs, ours = getattr(found.config, name), getattr(config, name)
        if theirs != ours:
            raise ValueError(
                f"--teacher '{source}' has {name} {theirs}, the trained network {ours}: their "
                "outputs are not for the same boxes"
            )
    if found.config.feature_maps != config.feature_maps:
        raise ValueError(
            f"--teacher '{source}' has other default boxes (feature_maps) than the trained "
            "network; --init with the teacher's file, or one trained from it, has the same"
        )
    teacher = SSD(len(classes), config=found.config)
    batch_norm.add(teacher, batch_norm.layers(found.tensors))
    pretrained.apply(teacher, found, classes)
    return teacher.eval().requires_grad_(False)


def distillation_loss(
    logits: Tensor, offsets: Tensor, teacher_logits: Tensor, teacher_offsets: Tensor
) -> tuple[Tensor, Tensor]:
    """How far a student's outputs are from its teacher's, where one of the two sees an object.

    Nearly all default boxes are background for both; they would drown the rest. So each box counts
    as much as the teacher or the student takes it for an object, and its offsets as much as the
    teacher does. Computed in float32.

    Args:
        logits, teacher_logits: (B, N, 1 + C), background first.
        offsets, teacher_offsets: (B, N, 4).

    Returns:
        Two sums, to be divided by the number of matched boxes: the Kullback-Leibler divergence of
        the class probabilities, and the smooth L1 of the offsets.
    """
    with torch.autocast(logits.device.type, enabled=False):
        ours, theirs = (F.log_softmax(x.float(), dim=-1) for x in (logits, teacher_logits))
        seen = 1 - theirs[..., 0].exp()  # (B, N), 0 to 1
        either = seen.maximum(1 - ours[..., 0].detach().exp())
        divergence = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1)
        location = F.smooth_l1_loss(offsets.float(), teacher_offsets.float(), reduction="none").sum(
            -1
        )
        return (either * divergence).sum(), (seen * location).sum()
