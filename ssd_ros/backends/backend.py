# SPDX-License-Identifier: Apache-2.0
"""The interface between the detector and the engine that runs the network. No PyTorch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

BACKENDS = ("openvino", "pytorch")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")


@dataclass(frozen=True)
class BackendOptions:
    """How the network is to run.

    Attributes:
        backend: `auto` (see `create.choose`) or one of BACKENDS.
        device: `auto` (CUDA where there is a device, else the CPU), `cpu`, `cuda`, `cuda:N`.
        precision: `auto` (the fastest that keeps the accuracy) or one of PRECISIONS;
            PyTorch uses fp32 instead of one that changes the outputs too much.
        threads: CPU threads, 0 for the engine's default. PyTorch has one setting for the process.

    Raises:
        ValueError: a value is out of its range; whether a device exists is known to the backend.
    """

    backend: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("backend", BACKENDS), ("precision", PRECISIONS)):
            if getattr(self, name) not in ("auto", *choices):
                raise ValueError(
                    f"{name} must be auto, {', '.join(choices)}, got '{getattr(self, name)}'"
                )
        check_device(self.device)
        if self.threads < 0:
            raise ValueError(f"threads must be at least 0, got {self.threads}")


def check_device(name: str) -> None:
    """Checks the form of a device's name.

    Raises:
        ValueError: it is not `auto`, `cpu`, `cuda` or `cuda:N`.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got '{name}'")


class Backend(Protocol):
    """A network on a device. To be used by one thread, the one that created it included.

    Attributes:
        name: of BACKENDS.
        device: where it runs, as the engine calls it.
        precision: of PRECISIONS.
        note: what runs and why, for the log.
    """

    name: str
    device: str
    precision: str
    note: str

    def infer(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray] | tuple[Tensor, Tensor]:
        """Runs the network.

        The outputs are arrays, or PyTorch tensors on the device, so that the post-processing runs
        there for the whole batch, and only detections are copied to the host: about 8 kB instead
        of 1 MB an image. They are valid until the next call.

        Args:
            images: uint8 RGB (B, S, S, 3) with S = config.input_size.

        Returns:
            logits (B, N, 1 + C), background first, and offsets (B, N, 4) from the default boxes.

        Raises:
            NotFiniteError: the outputs are NaN or infinite. If they are on a GPU, the
                post-processing raises it, which waits for them anyway.
        """

    def warm_up(self, batch: int) -> None:
        """Prepares for batches of 1 to `batch` images; may extend `note`."""

    def close(self) -> None:
        """Releases the network's memory, of the GPU too; `infer` must not be called again."""
