# SPDX-License-Identifier: Apache-2.0
"""How wide a network may be for a given cost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.model.config import SSDConfig
from ssd_ros.model.layers import activations, tensor_shapes
from ssd_ros.weights.quantisation import Quantisation
from ssd_ros.weights.weights import Weights
from training.evaluation.speed import median_milliseconds
from training.slimming import channels

_STEPS = 16  # widths are multiples of a sixteenth


def widest(config: SSDConfig, cost: Callable[[SSDConfig], float], limit: float) -> SSDConfig:
    """The widest network that costs at most so much.

    Args:
        config: the network to make narrower; a width in between costs something in between.
        cost: of a configuration, for example in milliseconds.
        limit: in the same unit.

    Raises:
        ValueError: the narrowest costs more.
    """
    if cost(config) <= limit:
        return config
    fits, too_wide = 0, _STEPS  # sixteenths; 0 is not known to fit
    while too_wide - fits > 1:
        middle = (fits + too_wide) // 2
        if cost(channels.narrower(config, middle / _STEPS)) <= limit:
            fits = middle
        else:
            too_wide = middle
    if not fits:
        lowest = cost(channels.narrower(config, 1 / _STEPS))
        raise ValueError(
            f"the narrowest network (width {1 / _STEPS:g}) costs {lowest:.3g}, more than {limit:g}"
        )
    return channels.narrower(config, fits / _STEPS)


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
    image = np.zeros((1, config.input_size, config.input_size, 3), np.uint8)
    return median_milliseconds([(weights, options)], image)[0]
