# SPDX-License-Identifier: Apache-2.0
"""PyTorch on CUDA or the CPU, at a chosen precision."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.model.ssd import SSD

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class PyTorchBackend:
    """A `Backend` that runs the PyTorch network.

    Args:
        model: the network; it is moved to the device and cast.
        options: device, precision and threads; the rest is for other engines.

    Raises:
        ValueError: no such device or precision here.
    """

    name = "pytorch"

    def __init__(self, model: SSD, options: BackendOptions = BackendOptions()) -> None:  # noqa: B008
        device = choose_device(options.device)
        self.device = str(device)
        self.precision = choose_precision(options.precision, device)
        if options.threads:
            torch.set_num_threads(options.threads)
        threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
        self.note = f"PyTorch {torch.__version__}, {self.precision}{threads}"
        self._model: SSD | None = model.eval().to(device).to(memory_format=torch.channels_last)
        # Only the parameters: the normalisation stays exact in float32.
        for parameter in self._model.parameters():
            parameter.data = parameter.data.to(PRECISIONS[self.precision])

    @torch.inference_mode()
    def infer(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """Logits and offsets, on the device, of a uint8 RGB batch (B, S, S, 3)."""
        if self._model is None:
            raise RuntimeError("the backend is closed")
        batch = torch.from_numpy(images).to(self.device, non_blocking=True)
        return self._model(self._model.normalise(batch))

    def close(self) -> None:
        """Releases the network, and the GPU memory that PyTorch keeps for later."""
        self._model = None
        release_memory()


def release_memory() -> None:
    """Returns the GPU memory of deleted networks, which PyTorch keeps for later, to the system."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def choose_device(name: str) -> torch.device:
    """The PyTorch device for `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        ValueError: the name is none of these, or there is no such device.
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
            f"device '{name}' not found: PyTorch {torch.__version__} reports {count} CUDA devices"
        )
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """`fp32`, `bf16` or `fp16`; `auto` is the fastest that keeps the detections the same."""
    if name == "auto":
        return "fp16" if device.type == "cuda" else "fp32"
    if name not in PRECISIONS:
        raise ValueError(f"precision must be auto, {', '.join(PRECISIONS)}, got '{name}'")
    return name
