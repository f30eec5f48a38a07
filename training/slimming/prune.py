# SPDX-License-Identifier: Apache-2.0
"""Taking channels out of a network: which, and what the rest becomes. No PyTorch.

A channel's importance is what it contributes to those who read it: the mean square of its
activation times the squared norm of their kernels for it. That is the expected square of its part
of their sums, where activations at different places are unrelated.
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

_TINY = np.finfo(np.float64).tiny


def importance(weights: Weights, moments: Mapping[str, Moments]) -> dict[str, np.ndarray]:
    """Importance of each output channel of each convolution but the heads, float64 (C,).

    Args:
        weights: with NumPy arrays.
        moments: of the network's results, see `activations.measure`.
    """
    return {
        name: np.sum(
            [moments[r.reads].square * _kernel_norms(weights, r.conv) for r in readers], axis=0
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


def prune(
    weights: Weights,
    keep: Mapping[str, np.ndarray],
    moments: Mapping[str, Moments],
) -> Weights:
    """A network with some of the channels of another.

    The mean of what a removed channel contributed, over all positions, is added to the biases of
    those who read it, and normalised results keep the length that their channels had.

    Args:
        weights: with NumPy arrays; a quantisation is left out, as ranges change.
        keep: indices of the channels that each convolution keeps, ascending.
        moments: of the network's results.

    Returns:
        The same tensors bit by bit where all channels are kept.
    """
    config = channels.with_counts(weights.config, {name: len(kept) for name, kept in keep.items()})
    tensors = {key: np.array(value) for key, value in weights.tensors.items()}
    removed = {
        name: np.setdiff1d(np.arange(count), keep[name])
        for name, count in channels.counts(weights.config).items()
    }
    coverage = channels.coverage(weights.config)
    for name, readers in channels.readers(weights.config).items():
        if not len(removed[name]):
            continue
        for part in ("weight", "bias"):
            tensors[f"{name}.{part}"] = tensors[f"{name}.{part}"][keep[name]]
        for reader in readers:
            weight, bias = (f"{reader.conv}.{part}" for part in ("weight", "bias"))
            gone = tensors[weight][:, removed[name]].astype(np.float64)
            means = moments[reader.reads].mean[removed[name]]
            shift = np.einsum("oihw,hw,i->o", gone, coverage[reader.conv], means)
            tensors[bias] = (tensors[bias] + shift).astype(tensors[bias].dtype)
            tensors[weight] = tensors[weight][:, keep[name]]
    for norm, result in channels.norms(weights.config).items():
        name = channels.origins(weights.config)[result]
        if len(removed[name]):
            square, scale = moments[result].square, tensors[f"{norm}.scale"][keep[name]]
            length = np.sqrt(square[keep[name]].sum() / max(square.sum(), _TINY))
            tensors[f"{norm}.scale"] = (scale * length).astype(scale.dtype)
    tensors = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    return replace(weights, tensors=tensors, config=config, quantisation=None)
