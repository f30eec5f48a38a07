# SPDX-License-Identifier: Apache-2.0
"""The mean activations of a network on images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssd_ros.detector import network_input
from ssd_ros.image import Image
from ssd_ros.io import image_files
from ssd_ros.model.ssd import SSD
from ssd_ros.model.steps import Step, walk
from training.trainer import progress


@dataclass(frozen=True)
class Moments:
    """Of the channels of one result over all positions of all images, float64 (C,) each.

    Attributes:
        mean: mean value.
        square: mean of the squares.
    """

    mean: np.ndarray
    square: np.ndarray


@torch.inference_mode()
def measure(model: SSD, files: Sequence[Path], batch: int = 4) -> dict[str, Moments]:
    """The moments of the results of all steps.

    Args:
        model: in evaluation mode, on its device.
        files: images, at least one.
        batch: images at once.

    Raises:
        ValueError: an image cannot be read.
    """
    sums: dict[str, Tensor] = {}

    def compute(step: Step, x: Tensor, *others: Tensor) -> Tensor:
        result = model.compute(step, x, *others)
        places = result.shape[2] * result.shape[3]
        # Norms rather than squares: no second copy of the activations.
        squares = torch.linalg.vector_norm(result, dim=(2, 3)).double().square() / places
        found = torch.stack((result.mean(dim=(2, 3)).double(), squares)).sum(dim=1)
        sums[step.name] = sums[step.name] + found if step.name in sums else found
        return result

    device = next(model.parameters()).device
    with progress.bar(total=len(files), desc="activations", unit="image", leave=False) as bar:
        for start in range(0, len(files), batch):
            part = files[start : start + batch]
            images = network_input(
                [Image(image_files.read(file)) for file in part], model.config.input_size
            )
            walk(model.network, model.normalise(torch.from_numpy(images).to(device)), compute)
            bar.update(len(part))
    return {name: Moments(*(total / len(files)).cpu().numpy()) for name, total in sums.items()}
