# SPDX-License-Identifier: Apache-2.0
"""Weights with random tensors, and with the ranges of their activations."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ssd_ros.model.config import SSDConfig
from ssd_ros.model.layers import activations
from ssd_ros.model.ssd import SSD
from ssd_ros.model.steps import Step, walk
from ssd_ros.weights.native import write
from ssd_ros.weights.quantisation import Quantisation
from ssd_ros.weights.reader import read
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


def torchvision_state_dict(outputs: int) -> dict[str, torch.Tensor]:
    """Small random tensors in the names and shapes of torchvision's ssd300_vgg16, in float16."""
    from torchvision.models.detection import ssd300_vgg16

    with torch.device("meta"):  # its own initialisation takes seconds
        model = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=outputs)
    generator = torch.Generator().manual_seed(0)
    return {
        key: 0.01 * torch.randn(tensor.shape, dtype=torch.float16, generator=generator)
        for key, tensor in model.state_dict().items()
    }


def write_overflowing_weights(path: Path, source: str, only_if_white: bool) -> Path:
    """The weights of a file, with finite values that make the outputs infinite or NaN.

    Args:
        only_if_white: only for an image with a white area; else for every image.
    """
    weights = read(source)
    tensors = {key: np.array(value) for key, value in weights.tensors.items()}
    white = (1 - np.array(weights.config.mean)) / weights.config.std
    # A chain of one channel: 0 until nine white pixels lie together, then beyond float32.
    tensors["conv1.1.weight"][0] = 1
    tensors["conv1.1.bias"][0] = -0.95 * 9 * white.sum() if only_if_white else 1000
    for layer in ("conv1.2", "conv2.1"):
        tensors[f"{layer}.weight"][0] = tensors[f"{layer}.bias"][0] = 0
        tensors[f"{layer}.weight"][0, 0] = 1e20
    write(path, replace(weights, tensors=tensors))
    return path


def quantised(weights: Weights, images: np.ndarray, kept: Sequence[str] = ()) -> Weights:
    """The weights with the ranges that their activations have on uint8 images (B, S, S, 3)."""
    model, ranges = weights.model(), {}

    def measure(step: Step, *inputs: torch.Tensor) -> torch.Tensor:
        x = model.compute(step, *inputs)
        ranges[step.name] = min(0.0, float(x.min())), float(x.max())
        return x

    with torch.inference_mode():
        walk(model.network, model.normalise(torch.from_numpy(images)), measure)
    ranges = {name: ranges[name] for name in activations(weights.config)}
    return replace(weights, quantisation=Quantisation(ranges, frozenset(kept)))
