# SPDX-License-Identifier: Apache-2.0
"""How wide a network may be for a given cost."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.model.config import SSDConfig
from ssd_ros.model.layers import activations, tensor_shapes
from ssd_ros.weights.quantisation import Quantisation
from ssd_ros.weights.weights import Weights
from training.evaluation.speed import median_milliseconds
from training.slimming import channels

_STEPS = 16


def of_width(config: SSDConfig, width: float) -> SSDConfig:
    """The configuration with at most the channels of a width.

    Raises:
        ValueError: the width is out of range, or no layer has more channels.
    """
    found = channels.narrower(config, width)
    if found == config:
        raise ValueError(f"no layer of the network ({channels.describe(config)}) is wider")
    return found


def widest(
    config: SSDConfig, cost: Callable[[SSDConfig], float], limit: float, unit: str
) -> SSDConfig:
    """The widest network that costs at most so much, of those whose width is in sixteenths.

    Args:
        config: the network to make narrower; a width in between costs something in between.
        cost: of a configuration.
        limit: in the same unit.
        unit: in words, for errors.

    Raises:
        ValueError: the whole network does not cost more, or the narrowest does.
    """
    if (whole := cost(config)) <= limit:
        raise ValueError(f"the network takes {whole:.3g} {unit}, already within that")
    tried = [channels.narrower(config, step / _STEPS) for step in range(1, _STEPS)]
    tried = [narrow for narrow in tried if narrow != config]
    fits, too_wide = 0, 1 + len(tried)  # how many of them fit, and do not
    lowest = whole
    while too_wide - fits > 1:
        middle = (fits + too_wide) // 2
        if (found := cost(tried[middle - 1])) <= limit:
            fits = middle
        else:
            too_wide, lowest = middle, found
    if not fits:
        narrowest = channels.describe(tried[0] if tried else config)
        raise ValueError(
            f"the narrowest network that is tried ({narrowest}) takes {lowest:.3g} {unit}"
        )
    return tried[fits - 1]


def printed(cost: Callable[[SSDConfig], float], unit: str) -> Callable[[SSDConfig], float]:
    """The cost, which prints what it returns: a measurement takes seconds.

    Args:
        cost: of a configuration.
        unit: in words.
    """

    def measure(config: SSDConfig) -> float:
        found = cost(config)
        print(f"{channels.describe(config)}: {found:.1f} {unit}", file=sys.stderr)
        return found

    return measure


def milliseconds(config: SSDConfig, classes: int, options: BackendOptions) -> float:
    """Median time of a network with random weights on one image on this machine.

    Args:
        classes: number of object classes.
        options: how the network runs; in int8 the ranges of its activations do not matter.
    """
    random = np.random.default_rng(0)
    tensors = {
        name: random.standard_normal(shape, np.float32) / np.sqrt(np.prod(shape[1:]) + 1)
        for name, shape in tensor_shapes(config, classes).items()
    }
    names = tuple(f"class {number}" for number in range(classes))
    ranges = Quantisation(dict.fromkeys(activations(config), (0.0, 8.0)))
    weights = Weights(tensors, names, config, quantisation=ranges)
    return median_milliseconds([(weights, options)])[0]
