# SPDX-License-Identifier: Apache-2.0
"""Weights of a small network, for the tests of weights files."""

from pathlib import Path

import torch

from ssd_ros.model.ssd import SSD
from ssd_ros.weights.weights import Weights

CLASSES = ("cup", "kátya", "rocket engine")
VERSION_1 = Path(__file__).parents[1] / "data" / "native_v1.safetensors"


def small_weights(**changes) -> Weights:
    torch.manual_seed(0)
    model = SSD(len(CLASSES), width=0.125)
    values = {
        "tensors": model.state_dict(),
        "classes": CLASSES,
        "config": model.config,
        "training": {"mAP": 0.5},
    }
    return Weights(**{**values, **changes})
