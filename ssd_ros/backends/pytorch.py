# SPDX-License-Identifier: Apache-2.0
"""What runs the network: PyTorch on CUDA or the CPU, at a chosen precision."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ssd_ros.model.ssd import SSD300

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchBackend:
    """SSD300 on one device.

    Args:
        model: the network; it is moved to the device and cast.
        device: `auto` (CUDA where there is a device, else the CPU), `cpu`, `cuda` or `cuda:N`.
        precision: `auto` (fp16 on CUDA, fp32 on the CPU), `fp32`, `bf16` or `fp16`.

    Raises:
        ValueError: no such device or precision here.
    """

    def __init__(self, model: SSD300, device: str = "auto", precision: str = "auto") -> None:
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self._model = model.eval().to(self.device).to(memory_format=torch.channels_last)
        # Only the parameters: default boxes and normalisation stay exact in float32.
        for parameter in self._model.parameters():
            parameter.data = parameter.data.to(PRECISIONS[self.precision])

    @property
    def defaults(self) -> Tensor:
        """The default boxes on the device, float32 (N, 4)."""
        return self._model.defaults

    def __call__(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """Class scores and offsets, on the device, of a uint8 RGB batch (B, 300, 300, 3)."""
        batch = torch.from_numpy(images).to(self.device, non_blocking=True)
        return self._model(self._model.normalise(batch))


def release_memory() -> None:
    """Gives the GPU's memory of models that are gone back to others."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def choose_device(name: str) -> torch.device:
    """The torch device for `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        ValueError: the name is none of these, or there is no such device here.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got '{name}'")
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(
            f"device '{name}' is not there: PyTorch {torch.__version__} sees {count} CUDA devices"
        )
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """`fp32`, `bf16` or `fp16`; `auto` is the fastest that keeps the detections the same."""
    if name == "auto":
        return "fp16" if device.type == "cuda" else "fp32"
    if name not in PRECISIONS:
        raise ValueError(f"precision must be auto, {', '.join(PRECISIONS)}, got '{name}'")
    return name
