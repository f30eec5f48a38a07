# SPDX-License-Identifier: Apache-2.0
"""A network with the most important channels of another, by its activations on some images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssd_ros.model.config import SSDConfig
from ssd_ros.weights.weights import Weights
from training.slimming import activations, prune, restoring


@dataclass(frozen=True)
class Whole:
    """A network to make narrower, and what is known of it.

    Attributes:
        weights: with NumPy arrays.
        images: on which it was measured, uint8 (N, S, S, 3), on the device that did it.
        importances: of its channels, see `prune.importance`.
        sums: moments of its convolutions' sums, see `Activations`.
    """

    weights: Weights
    images: Tensor
    importances: Mapping[str, np.ndarray]
    sums: Mapping[str, activations.Moments]


def measure(weights: Weights, files: Sequence[Path], device: torch.device) -> Whole:
    """Measures a network on images.

    Args:
        weights: with NumPy arrays.
        files: images, at least one.
        device: runs the network.

    Raises:
        ValueError: another backbone than VGG16, or an image cannot be read.
    """
    images = activations.read_images(files, weights.config.input_size).to(device)
    found = activations.measure(weights.model().to(device), images)
    return Whole(weights, images, prune.importance(weights, found.results), found.sums)


def narrow(whole: Whole, config: SSDConfig) -> Weights:
    """The narrower network, not yet trained; the same tensors bit by bit where nothing goes.

    Args:
        whole: the measured network.
        config: its configuration with fewer channels.
    """
    keep = prune.choose(whole.importances, config)
    found = prune.prune(whole.weights, keep)
    if found.config == whole.weights.config:
        return found
    model = found.model().to(whole.images.device)
    restoring.restore(model, keep, whole.sums, whole.images)
    tensors = {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}
    return replace(found, tensors=tensors)
