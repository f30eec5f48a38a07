# SPDX-License-Identifier: Apache-2.0
"""How much it costs to take channels out of each layer, and how many each layer should keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from ssd_ros.model.config import SSDConfig
from ssd_ros.model.layers import multiply_adds
from ssd_ros.weights.weights import Weights
from training.slimming import channels
from training.slimming.activations import Moments
from training.slimming.prune import importance, prune

SHARES = (0.75, 0.5, 0.25)  # of a layer's channels that are kept


@dataclass(frozen=True)
class Costs:
    """What pruning single layers costs, without tuning.

    Attributes:
        base: the loss of the whole network.
        losses: for each convolution the loss with each of SHARES of its channels.
    """

    base: float
    losses: Mapping[str, tuple[float, ...]]

    def at(self, name: str, share: float) -> float:
        """The loss that a layer adds with this share of its channels, interpolated; at least 0.

        It is made monotone: fewer channels never cost less.
        """
        added = np.maximum.accumulate([0.0, *(loss - self.base for loss in self.losses[name])])
        return float(np.interp(share, (*SHARES[::-1], 1.0), added[::-1]))


def measure(
    weights: Weights, moments: Mapping[str, Moments], loss: Callable[[Weights], float]
) -> Costs:
    """Prunes one layer at a time.

    Args:
        weights: with NumPy arrays.
        moments: of the network's results.
        loss: of a network on some images.
    """
    full = channels.counts(weights.config)
    ranked = {name: np.argsort(-value) for name, value in importance(weights, moments).items()}
    everything = {name: np.arange(count) for name, count in full.items()}
    base, losses = loss(weights), {}
    for name in tqdm(full, desc="sensitivity", unit="layer", disable=None):
        found = []
        for share in SHARES:
            kept = np.sort(ranked[name][: _kept(full[name], share)])
            found.append(loss(prune(weights, everything | {name: kept}, moments)))
        losses[name] = tuple(found)
    return Costs(base, losses)


def allocate(config: SSDConfig, costs: Costs, limit: float) -> SSDConfig:
    """Channels for each layer: those whose loss costs least for the multiplications saved go.

    Args:
        config: the whole network.
        costs: of its layers.
        limit: multiply-adds of the result, with the heads of one class.

    Returns:
        A configuration below the limit, or the narrowest that SHARES allow.
    """
    full = channels.counts(config)
    kept = dict(full)
    total = multiply_adds(config, 1)
    while total > limit:
        best, best_rate, best_total = None, np.inf, total
        for name, count in kept.items():
            fewer = count - channels.MULTIPLE
            if fewer < _kept(full[name], SHARES[-1]):
                continue
            less = multiply_adds(channels.with_counts(config, kept | {name: fewer}), 1)
            added = costs.at(name, fewer / full[name]) - costs.at(name, count / full[name])
            rate = (added + 1e-6) / (total - less)  # where nothing is lost, the largest goes first
            if rate < best_rate:
                best, best_rate, best_total = name, rate, less
        if best is None:
            break
        kept[best] -= channels.MULTIPLE
        total = best_total
    return channels.with_counts(config, kept)


def _kept(count: int, share: float) -> int:
    return max(channels.MULTIPLE, channels.MULTIPLE * round(count * share / channels.MULTIPLE))


def format_table(config: SSDConfig, costs: Costs) -> str:
    """The costs for people: a line for each layer."""
    header = "  ".join(f"{f'{share:.0%}':>7}" for share in SHARES)
    rows = [f"loss {costs.base:.3f}; with so many of one layer's channels:", f"{'':<8}  {header}"]
    for name in channels.counts(config):
        values = "  ".join(f"{loss:7.3f}" for loss in costs.losses[name])
        rows.append(f"{name:<8}  {values}")
    return "\n".join(rows)
