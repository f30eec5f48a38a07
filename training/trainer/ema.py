# SPDX-License-Identifier: Apache-2.0
"""An exponential moving average (EMA) of a network's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def create_ema(model: nn.Module, decay: float) -> AveragedModel:
    """An average that follows a network, batch statistics included.

    Call `update_parameters(model)` after each step of the optimiser; `module` is the average.

    Args:
        model: its present weights are the first average.
        decay: share of the average that stays at each update, 0 to below 1; 0 disables averaging.
            The first updates use less: (1 + n) / (10 + n), so that the random initial weights are
            soon forgotten.

    Raises:
        ValueError: the decay is out of range.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"ema must be from 0 to below 1, got {decay}")

    def update(averages: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        if averages[0].is_floating_point():
            n = int(count)
            warmed_up = min(decay, (1 + n) / (10 + n)) if decay else 0.0
            get_ema_multi_avg_fn(warmed_up)(averages, current, count)
        else:  # a number of batches has no average
            for average, value in zip(averages, current, strict=True):
                average.copy_(value)

    ema = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    ema.n_averaged.fill_(1)  # or the first update would copy the weights instead
    return ema


def restore_ema(ema: AveragedModel, state: Mapping[str, Any]) -> None:
    """Loads the average of a checkpoint.

    Args:
        ema: as `create_ema` makes it.
        state: its `state_dict()`; or `updates` and `tensors`, as checkpoints held it before
            `AveragedModel` was used.
    """
    if "tensors" in state:
        tensors = {f"module.{key}": value for key, value in state["tensors"].items()}
        state = {"n_averaged": torch.tensor(1 + state["updates"]), **tensors}
    ema.load_state_dict(state)
