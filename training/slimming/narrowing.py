# SPDX-License-Identifier: Apache-2.0
"""A network with the most important channels of another, by its activations on some images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ssd_ros.model.config import SSDConfig
from ssd_ros.weights.weights import Weights
from training.slimming import activations, prune


def narrow(
    weights: Weights, config: SSDConfig, files: Sequence[Path], device: torch.device
) -> Weights:
    """The narrower network, not yet trained.

    Args:
        weights: with NumPy arrays.
        config: that of the weights with fewer channels.
        files: images, at least one.
        device: runs the network.

    Raises:
        ValueError: another backbone than VGG16, or an image cannot be read.
    """
    moments = activations.measure(weights.model().to(device), files)
    keep = prune.choose(prune.importance(weights, moments), config)
    return prune.prune(weights, keep, moments)
