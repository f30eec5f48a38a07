# SPDX-License-Identifier: Apache-2.0
"""An exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Average:
    """Follows a network's state dict, batch statistics included.

    Args:
        model: its present state is the first average.
        decay: share of the average that stays at each update, 0 to below 1; 0 is no average. The
            first updates use less: (1 + n) / (10 + n), so that the random start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ema must be from 0 to below 1, got {decay}")
        self._decay = decay
        self._updates = 0
        self.tensors = {key: value.detach().clone() for key, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """To be called after each step of the optimiser."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates)) if self._decay else 0.0
        state = model.state_dict()
        floating = [key for key, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self.tensors[key] for key in floating], [state[key] for key in floating], 1 - decay
        )
        for key in state.keys() - floating:
            self.tensors[key].copy_(state[key])

    def state_dict(self) -> dict[str, object]:
        return {"updates": self._updates, "tensors": self.tensors}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        tensors: dict[str, Tensor] = state["tensors"]  # type: ignore[assignment]
        self._updates = int(state["updates"])  # type: ignore[call-overload]
        for key, value in tensors.items():
            self.tensors[key].copy_(value)
