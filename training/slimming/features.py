# SPDX-License-Identifier: Apache-2.0
"""Pretrained features of VGG16 for a narrower network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ssd_ros.model.ssd import SSD
from ssd_ros.weights.weights import Weights
from training.slimming import channels, narrowing
from training.trainer.pretrained import Pretrained


def narrow(
    source: Pretrained, width: float, files: Sequence[Path], device: torch.device
) -> Pretrained:
    """The most important channels of a backbone on some images.

    Where its channels are read by layers that it lacks, their random kernels stand for those.

    Args:
        source: a backbone of the width 1.
        width: channel multiplier of the result.
        files: images, at least one.
        device: runs the network.

    Raises:
        ValueError: another backbone than VGG16, or an image cannot be read.
    """
    model = SSD(1, config=source.config)
    model.load_state_dict(source.tensors, strict=False)
    tensors: dict[str, np.ndarray] = {k: v.numpy() for k, v in model.state_dict().items()}
    weights = Weights(tensors, ("object",), source.config)
    config = channels.narrower(source.config, width)
    found = narrowing.narrow(narrowing.measure(weights, files, device), config)
    return replace(
        source,
        tensors={key: torch.as_tensor(found.tensors[key]) for key in source.tensors},
        config=found.config,
    )
