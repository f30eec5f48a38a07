# SPDX-License-Identifier: Apache-2.0
"""How much it costs to take channels out of each layer, and how many each layer should keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ssd_ros.model.config import SSDConfig
from ssd_ros.model.layers import multiply_adds
from ssd_ros.weights.weights import Weights
from training.slimming import channels
from training.slimming.narrowing import Whole, narrow
from training.trainer import progress

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


def measure(whole: Whole, loss: Callable[[Weights], float]) -> Costs:
    """Prunes one layer at a time.

    Args:
        whole: the network, measured on few images: each time they pass through what is left.
        loss: of a network on some images.
    """
    config = whole.weights.config
    full = channels.counts(config)
    base, losses = loss(whole.weights), {}
    for name in progress.bar(iterable=full, desc="sensitivity", unit="layer", leave=False):
        counts = [_kept(full[name], share) for share in SHARES]
        narrower = [channels.with_counts(config, full | {name: count}) for count in counts]
        losses[name] = tuple(loss(narrow(whole, other)) for other in narrower)
    return Costs(base, losses)


def check_limit(config: SSDConfig, limit: float, classes: int) -> None:
    """Checks that `allocate` can reach a limit, which is known before anything is measured.

    Args:
        config: the whole network.
        limit, classes: as for `allocate`.

    Raises:
        ValueError: it cannot.
    """
    full = channels.counts(config)
    least = {name: _kept(count, SHARES[-1]) for name, count in full.items()}
    reached = multiply_adds(channels.with_counts(config, least), classes)
    if reached > limit:
        raise ValueError(
            f"--sensitivity keeps at least {SHARES[-1]:.0%} of each layer's channels, which makes "
            f"{reached:.3g} multiply-adds, more than the {limit:.3g} that are asked for; omit it, "
            "or make the network narrower in two runs"
        )


def allocate(config: SSDConfig, costs: Costs, limit: float, classes: int) -> SSDConfig:
    """Channels for each layer: those whose loss costs least for the multiplications saved go.

    Args:
        config: the whole network.
        costs: of its layers.
        limit: most multiply-adds of the result; see `check_limit`.
        classes: number of object classes.

    Raises:
        ValueError: no layer is left to take channels from.
    """
    full = channels.counts(config)
    kept = dict(full)
    total = multiply_adds(config, classes)
    while total > limit:
        best, best_rate, best_total = None, np.inf, total
        for name, count in kept.items():
            fewer = count - channels.MULTIPLE
            if fewer < _kept(full[name], SHARES[-1]):
                continue
            less = multiply_adds(channels.with_counts(config, kept | {name: fewer}), classes)
            added = costs.at(name, fewer / full[name]) - costs.at(name, count / full[name])
            rate = (added + 1e-6) / (total - less)  # where nothing is lost, the largest goes first
            if rate < best_rate:
                best, best_rate, best_total = name, rate, less
        if best is None:
            raise ValueError(f"no layers with finite losses reach {limit:.3g} multiply-adds")
        kept[best] -= channels.MULTIPLE
        total = best_total
    return channels.with_counts(config, kept)


def _kept(count: int, share: float) -> int:
    """Channels that a share leaves: a multiple of `MULTIPLE`, or all."""
    multiple = channels.MULTIPLE
    return min(count, max(multiple, multiple * round(count * share / multiple)))


def format_table(config: SSDConfig, costs: Costs, found: SSDConfig) -> str:
    """The costs for people: a line for each layer, with its channels before and after.

    Args:
        config: the whole network.
        costs: of its layers.
        found: what `allocate` made of them.
    """
    header = "  ".join(f"{f'{share:.0%}':>7}" for share in SHARES)
    rows = [
        f"loss {costs.base:.3f}; with so many of one layer's channels, and what it keeps:",
        f"{'':<8}  {header}  channels",
    ]
    kept = channels.counts(found)
    for name, count in channels.counts(config).items():
        values = "  ".join(f"{loss:7.3f}" for loss in costs.losses[name])
        rows.append(f"{name:<8}  {values}  {kept[name]} of {count}")
    return "\n".join(rows)
