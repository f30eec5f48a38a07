# SPDX-License-Identifier: Apache-2.0
"""Floating-point precisions of the network, and whether its outputs can be used."""

from __future__ import annotations

import torch
from torch import Tensor

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# By how much the outputs may change in half precision. Trained weights in bf16 change a score by
# 0.003 at most, random ones by 0.3 at most and 0.007 in the mean; offsets change by 0.02.
MAX_SCORE_CHANGE = 0.5
MAX_MEAN_SCORE_CHANGE = 0.03
MAX_OFFSET_CHANGE = 0.1  # of the largest offset

Outputs = tuple[Tensor, Tensor]  # logits and offsets


def name_of(dtype: torch.dtype) -> str:
    """The precision's name, for messages."""
    return next((name for name, value in PRECISIONS.items() if value is dtype), str(dtype))


def all_finite(logits: Tensor, offsets: Tensor) -> Tensor:
    """Whether no value is NaN or infinite: a bool scalar on the device, without waiting for it."""
    # The extremes are NaN if any value is, and take one pass without a temporary tensor.
    extremes = torch.stack((*torch.aminmax(logits), *torch.aminmax(offsets)))
    return extremes.isfinite().all()


def difference(exact: Outputs, other: Outputs) -> str:
    """Why other outputs cannot replace the exact ones; empty if they can.

    Args:
        exact: finite logits and offsets.
        other: those of the same images in another precision.
    """
    scores = [logits.float().softmax(dim=-1) for logits, _ in (exact, other)]
    score = (scores[0] - scores[1]).abs()
    offset = (exact[1] - other[1].float()).abs().max() / exact[1].abs().max().clamp(min=1.0)
    if not all_finite(*other).item():
        return "its outputs are not finite"
    for name, change, limit in (
        ("a score changes", score.max().item(), MAX_SCORE_CHANGE),
        ("the mean score changes", score.amax(dim=-1).mean().item(), MAX_MEAN_SCORE_CHANGE),
        ("a box offset changes, as a share of the largest,", offset.item(), MAX_OFFSET_CHANGE),
    ):
        if change > limit:
            return f"{name} by {change:.2f}, the limit is {limit:g}"
    return ""
