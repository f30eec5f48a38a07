# SPDX-License-Identifier: Apache-2.0
"""What a weights file records so that the network can run in 8-bit integers. No engine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ssd_ros.model.config import SSDConfig
from ssd_ros.model.layers import activations, convolutions, heads
from ssd_ros.weights.weights import WeightsError

LEVELS = 256  # of an 8-bit activation


@dataclass(frozen=True)
class Quantisation:
    """The ranges of a network's activations, and what is not to be quantised.

    Weights need no ranges: they are rounded when they are loaded (`round_weights`), so that a file
    has one set of tensors for every precision. Neither does the input, whose range follows from
    the normalisation (`input_range`).

    Attributes:
        ranges: lowest and highest value of each of `layers.activations`, with low <= 0 <= high,
            low < high; values outside are clipped.
        kept: names of the convolutions that stay in floating point, of `layers.convolutions` and
            `layers.heads`; empty for none.
    """

    ranges: Mapping[str, tuple[float, float]]
    kept: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """What `parse` reads."""
        ranges = {name: list(bounds) for name, bounds in self.ranges.items()}
        return {"ranges": ranges, "kept": sorted(self.kept)}


def parse(values: Any, config: SSDConfig) -> Quantisation:
    """The quantisation of a network from the metadata of a file.

    Raises:
        WeightsError: it is not that of this network, or a range is unusable.
    """
    if (
        not isinstance(values, dict)
        or values.keys() != {"ranges", "kept"}
        or not isinstance(values["ranges"], dict)
        or not isinstance(values["kept"], list)
    ):
        raise WeightsError(
            f"metadata 'quantisation' must hold 'ranges' and 'kept', got {values!r:.80}"
        )
    ranges = {name: _range(name, bounds) for name, bounds in values["ranges"].items()}
    expected = set(activations(config))
    _check_names("no range of", expected - ranges.keys())
    _check_names("unknown activation", ranges.keys() - expected)
    convs = {conv.name for conv in (*convolutions(config), *heads(config, 1))}
    _check_names("unknown convolution", {str(name) for name in values["kept"]} - convs)
    return Quantisation(ranges, frozenset(values["kept"]))


def input_range(config: SSDConfig) -> tuple[np.ndarray, np.ndarray]:
    """A range that holds the normalised input of any 8-bit image, (3,) each, for its channels.

    Engines need levels of one width for all channels. They are those of the image, so that nothing
    is rounded, where all channels have the same std and their means are whole levels.
    """
    mean, std = np.array(config.mean), np.array(config.std)
    low, high = np.minimum(0, -mean / std), np.maximum(0, (1 - mean) / std)
    return low, low + (high - low).max()


def with_exact_zero(low: ArrayLike, high: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The range moved by less than a level so that 0, which convolutions pad with, is a level."""
    step = np.subtract(high, low) / (LEVELS - 1)
    zero = np.rint(np.negative(low) / step)
    return -zero * step, (LEVELS - 1 - zero) * step


def round_weights(kernel: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """A convolution's kernel as integers, symmetric around 0, with a scale per output channel.

    Args:
        kernel: float (outputs, inputs, height, width).
        bits: 8 for integers up to 127 in size, 7 for up to 63.

    Returns:
        int8 array of the kernel's shape, and float32 (outputs, 1, 1, 1): their product is the
        kernel, rounded.
    """
    largest = np.abs(kernel).max((1, 2, 3), keepdims=True).astype(np.float32)
    scale = np.where(largest > 0, largest, 1) / np.float32(2 ** (bits - 1) - 1)
    return np.rint(kernel / scale).astype(np.int8), scale


def _range(name: str, bounds: Any) -> tuple[float, float]:
    try:
        low, high = map(float, bounds)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (low <= 0 <= high and low < high and math.isfinite(high - low)):
        raise WeightsError(
            f"metadata 'quantisation': the range of '{name}' must be two numbers around 0, "
            f"got {bounds!r:.80}"
        )
    return low, high


def _check_names(what: str, wrong: set[str]) -> None:
    if wrong:
        raise WeightsError(
            f"metadata 'quantisation' does not fit the network: {what} "
            + ", ".join(f"'{name:.40}'" for name in sorted(wrong)[:3])
        )
