# SPDX-License-Identifier: Apache-2.0
"""Taking channels out of a network: which, and what is left. No PyTorch.

A channel's importance is what it contributes to those who read it: the variance of its activation
times the squared norm of their kernels for it. That is the variance of its part of their sums,
where activations at different places are unrelated. Its mean does not count: biases can hold it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ssd_ros.model.config import SSDConfig
from ssd_ros.weights.weights import Weights
from training.slimming import channels

if TYPE_CHECKING:
    from training.slimming.activations import Moments


def importance(weights: Weights, moments: Mapping[str, Moments]) -> dict[str, np.ndarray]:
    """Importance of each output channel of each convolution but the heads, float64 (C,).

    Args:
        weights: with NumPy arrays.
        moments: of the network's results, see `Activations`.
    """
    return {
        name: np.sum(
            [moments[r.reads].variance * _kernel_norms(weights, r.conv) for r in readers], axis=0
        )
        for name, readers in channels.readers(weights.config).items()
    }


def _kernel_norms(weights: Weights, conv: str) -> np.ndarray:
    """Squared norm of a convolution's kernels for each input channel."""
    kernels = np.asarray(weights.tensors[f"{conv}.weight"], np.float64)
    return np.einsum("oihw,oihw->i", kernels, kernels)


def choose(importances: Mapping[str, np.ndarray], config: SSDConfig) -> dict[str, np.ndarray]:
    """Indices of the most important channels, ascending; as many as the configuration has."""
    return {
        name: np.sort(np.argsort(-importances[name], kind="stable")[:count])
        for name, count in channels.counts(config).items()
    }


def prune(weights: Weights, keep: Mapping[str, np.ndarray]) -> Weights:
    """A network with some of the channels of another.

    Args:
        weights: with NumPy arrays; a quantisation is left out, as ranges change.
        keep: indices of the channels that each convolution keeps, ascending.

    Returns:
        The same tensors bit by bit where all channels are kept.
    """
    config = channels.with_counts(weights.config, {name: len(kept) for name, kept in keep.items()})
    tensors = {key: np.array(value) for key, value in weights.tensors.items()}
    for name, readers in channels.readers(weights.config).items():
        for part in ("weight", "bias"):
            tensors[f"{name}.{part}"] = tensors[f"{name}.{part}"][keep[name]]
        for reader in readers:
            weight = f"{reader.conv}.weight"
            tensors[weight] = tensors[weight][:, keep[name]]
    for norm, result in channels.norms(weights.config).items():
        origin = channels.origins(weights.config)[result]
        tensors[f"{norm}.scale"] = tensors[f"{norm}.scale"][keep[origin]]
    tensors = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    return replace(weights, tensors=tensors, config=config, quantisation=None)
