# SPDX-License-Identifier: Apache-2.0
"""How wide a network may be for a given cost."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.model.config import SSDConfig
from ssd_ros.model.layers import activations, multiply_adds, tensor_shapes
from ssd_ros.weights.quantisation import Quantisation
from ssd_ros.weights.weights import Weights
from training.evaluation.speed import median_milliseconds
from training.slimming import channels

_STEPS = 16  # widths are multiples of a sixteenth


@dataclass(frozen=True)
class Target:
    """One limit; the other two are None.

    Attributes:
        width: channel multiplier, above 0.
        multiplications: on one image, each with an addition.
        milliseconds: of one image on this machine.
        how: what runs the network for these.
    """

    width: float | None
    multiplications: float | None
    milliseconds: float | None
    how: BackendOptions


def find(config: SSDConfig, classes: int, target: Target) -> SSDConfig:
    """The widest configuration within a target. Times that are measured are printed.

    Args:
        config: the network to make narrower.
        classes: number of object classes.
        target: the limit.

    Raises:
        ValueError: no network is, or the whole one already.
    """
    if target.width is not None:
        found = channels.narrower(config, target.width)
        if found == config:
            raise ValueError(
                f"no layer of the network ({channels.describe(config)}) is wider than in one of "
                f"width {target.width:g}"
            )
        return found
    if target.multiplications is not None:
        return widest(
            config, lambda c: multiply_adds(c, classes), target.multiplications, "multiply-adds"
        )
    assert target.milliseconds is not None
    unit = f"ms an image in {target.how.precision}"

    def cost(tried: SSDConfig) -> float:
        taken = milliseconds(tried, classes, target.how)
        print(f"{channels.describe(tried)}: {taken:.1f} {unit}", file=sys.stderr)
        return taken

    return widest(config, cost, target.milliseconds, unit)


def widest(
    config: SSDConfig, cost: Callable[[SSDConfig], float], limit: float, unit: str
) -> SSDConfig:
    """The widest network that costs at most so much, of the widths that are tried.

    Args:
        config: the network to make narrower; a width in between costs something in between.
        cost: of a configuration.
        limit: in the same unit.
        unit: in words, for errors.

    Raises:
        ValueError: the whole network does not cost more, or the narrowest does.
    """
    if (whole := cost(config)) <= limit:
        raise ValueError(f"the network takes {whole:.3g} {unit}, already within {limit:g}")
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
            f"the narrowest network that is tried (width {1 / _STEPS:g}) takes {lowest:.3g} "
            f"{unit}, more than {limit:g}"
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
    return median_milliseconds([(weights, options)])[0]
