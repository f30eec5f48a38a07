# SPDX-License-Identifier: Apache-2.0
"""What a network computes on images: mean and spread of every channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ssd_ros.detector import network_input
from ssd_ros.image import Image
from ssd_ros.io import image_files
from ssd_ros.model.ssd import SSD
from ssd_ros.model.steps import Step, walk
from training.trainer import progress


@dataclass(frozen=True)
class Moments:
    """Of some channels over all positions of all images, float64 (C,) each.

    Attributes:
        mean: mean value.
        variance: mean square of the distance from it.
    """

    mean: np.ndarray
    variance: np.ndarray


@dataclass(frozen=True)
class Activations:
    """The moments of a network's channels.

    Attributes:
        results: of each step, as the next one reads them.
        sums: of each convolution, heads included, before its ReLU.
    """

    results: Mapping[str, Moments]
    sums: Mapping[str, Moments]


def read_images(files: Sequence[Path], size: int) -> Tensor:
    """Images as the network takes them, uint8 RGB (N, size, size, 3).

    Raises:
        ValueError: an image cannot be read.
    """
    # One by one: photographs are far larger than what the network takes.
    images = [network_input([Image(image_files.read(file))], size) for file in files]
    return torch.from_numpy(np.concatenate(images))


@torch.inference_mode()
def measure(model: SSD, images: Tensor, batch: int = 4) -> Activations:
    """The moments on some images.

    Args:
        model: in evaluation mode.
        images: at least one, as `read_images` returns them, on the model's device.
        batch: images at once.
    """
    results: dict[str, Tensor] = {}
    sums: dict[str, Tensor] = {}

    def add(totals: dict[str, Tensor], name: str, values: Tensor) -> None:
        places = values.shape[2] * values.shape[3]
        # Norms rather than squares: no second copy of the activations.
        squares = torch.linalg.vector_norm(values, dim=(2, 3)).double().square() / places
        found = torch.stack((values.mean(dim=(2, 3)).double(), squares)).sum(dim=1)
        totals[name] = totals[name] + found if name in totals else found

    def compute(step: Step, *inputs: Tensor) -> Tensor:
        result = model.compute(step, *inputs)
        add(results, step.name, result)
        return result

    hooks = [
        conv.register_forward_hook(lambda _conv, _in, out, name=name: add(sums, name, out))
        for name, conv in convolutions(model).items()
    ]
    with progress.bar(total=len(images), desc="activations", unit="image", leave=False) as bar:
        for part in images.split(batch):
            maps = walk(model.network, model.normalise(part), compute)
            for heads in (model.scores, model.offsets):
                for head, x in zip(heads, maps, strict=True):
                    head(x)
            bar.update(len(part))
    for hook in hooks:
        hook.remove()
    return Activations(*(_moments(totals, len(images)) for totals in (results, sums)))


def convolutions(model: SSD) -> dict[str, nn.Conv2d]:
    """The convolutions by name, heads included."""
    return {name: conv for name, conv in model.named_modules() if isinstance(conv, nn.Conv2d)}


def _moments(totals: Mapping[str, Tensor], images: int) -> dict[str, Moments]:
    found = {}
    for name, total in totals.items():
        mean, square = (total / images).cpu().numpy()
        found[name] = Moments(mean, np.maximum(square - mean**2, 0))
    return found
