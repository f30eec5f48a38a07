# SPDX-License-Identifier: Apache-2.0
"""Weights files with random tensors."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ssd_ros.model.config import SSDConfig
from ssd_ros.model.ssd import SSD
from ssd_ros.weights.native import write
from ssd_ros.weights.weights import Weights

CLASSES = ("cube", "ball", "cone")
OTHER_CLASSES = ("apple", "pear")


def with_input_of_320_pixels(config: SSDConfig) -> SSDConfig:
    """The same network for larger images, and so with more cells in its first maps."""
    cells = (40, 20, 10, 5, 3, 1)
    maps = [replace(m, cells=n) for m, n in zip(config.feature_maps, cells, strict=True)]
    return replace(config, input_size=320, feature_maps=tuple(maps))


def write_random_weights(
    path: Path, seed: int, classes: Sequence[str], width: float = 0.0625
) -> Path:
    """Weights that detect about twenty objects in any image, with scores of 0.5 to 0.95."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SSD(len(classes), width)
    with torch.no_grad():
        for head in model.scores:
            head.weight *= 0.3
            head.bias[:: len(classes) + 1] += 5  # the background's
    write(path, Weights(model.state_dict(), tuple(classes), model.config))
    return path
