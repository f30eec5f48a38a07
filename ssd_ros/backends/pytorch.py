# SPDX-License-Identifier: Apache-2.0
"""PyTorch on CUDA or the CPU, at a chosen precision."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from ssd_ros.backends.backend import BackendOptions, check_device
from ssd_ros.backends.cuda_graph import CudaGraph
from ssd_ros.command_line import plural
from ssd_ros.model.not_finite import NotFiniteError
from ssd_ros.model.precision import PRECISIONS, Outputs, all_finite, difference
from ssd_ros.model.ssd import SSD


class PyTorchBackend:
    """A `Backend` that runs the PyTorch network.

    Args:
        model: the network; it is moved to the device and cast.
        options: device, precision and threads; the rest is for other engines.

    Raises:
        ValueError: no such device or precision here.
        NotFiniteError: half precision is asked for, but even float32 gives no finite outputs.
    """

    name = "pytorch"

    def __init__(self, model: SSD, options: BackendOptions = BackendOptions()) -> None:  # noqa: B008
        device = choose_device(options.device)
        self.device = str(device)
        if options.threads:
            torch.set_num_threads(options.threads)
        model = model.eval().to(device, torch.float32).to(memory_format=torch.channels_last)
        precision = choose_precision(options.precision, device)
        self.precision, reason = use_precision(model, precision)
        threads = plural(torch.get_num_threads(), "thread") if device.type == "cpu" else self.device
        self.note = f"PyTorch {torch.__version__}, {self.precision}, {threads}"
        self._add_note(reason)
        self._model: SSD | None = model
        self._graphs: dict[int, CudaGraph] = {}  # by batch size

    def _add_note(self, text: str) -> None:
        self.note = "; ".join(filter(None, (self.note, text)))

    def infer(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """Logits and offsets, on the device, of a uint8 RGB batch (B, S, S, 3).

        Raises:
            NotFiniteError: they are not finite. Only on the CPU: on a GPU the check would have to
                wait for them, so it comes with the copy of the detections to the host.
        """
        if self._model is None:
            raise RuntimeError("the backend is closed")
        run = self._graphs.get(len(images)) or partial(forward, self._model)
        logits, offsets = run(images)
        if logits.device.type == "cpu" and not all_finite(logits, offsets):
            raise NotFiniteError(self.precision)
        return logits, offsets

    def warm_up(self, batch: int) -> None:
        """On CUDA, records a graph for each batch size, as each has its own cuDNN plans.

        On the CPU a new batch size costs nothing but in the first run of a process.
        """
        if self._model is None:
            raise RuntimeError("the backend is closed")
        if self._model.defaults.device.type != "cuda":
            return
        images = noise(batch, self._model.config.input_size)
        try:
            pool = torch.cuda.graph_pool_handle()
            for size in range(1, batch + 1):
                graph = CudaGraph(self._model, size, pool)
                expected = forward(self._model, images[:size])
                if reason := difference(expected, graph(images[:size])):
                    raise RuntimeError(reason)
                self._graphs[size] = graph
        except Exception as error:  # whatever it is, the network runs without graphs
            self._graphs.clear()
            self._add_note(f"no CUDA graphs: {error}")
            for size in range(1, batch + 1):
                forward(self._model, images[:size])

    def close(self) -> None:
        """Releases the network, and the GPU memory that PyTorch keeps for later."""
        self._model = None
        self._graphs.clear()
        release_memory()


@torch.inference_mode()
def forward(model: SSD, images: np.ndarray) -> Outputs:
    """Logits and offsets of a uint8 batch (B, S, S, 3), on the model's device."""
    batch = torch.from_numpy(images).to(model.defaults.device, non_blocking=True)
    return model(model.normalise(batch))


def use_precision(model: SSD, name: str) -> tuple[str, str]:
    """Casts the parameters, if the outputs for noise images stay about the same.

    Args:
        model: on its device, in float32. The normalisation of images stays in float32.
        name: of PRECISIONS.

    Returns:
        The precision in use, and why it is not the given one; empty if it is.

    Raises:
        NotFiniteError: half precision is asked for, but not even float32 gives finite outputs.
    """
    if name == "fp32":
        return name, ""
    images = noise(2, model.config.input_size)
    exact = forward(model, images)
    if not all_finite(*exact):
        raise NotFiniteError("fp32")
    parameters = list(model.parameters())
    values = [parameter.data for parameter in parameters]
    for parameter in parameters:
        parameter.data = parameter.data.to(PRECISIONS[name])
    reason = difference(exact, forward(model, images))
    if not reason:
        return name, ""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.data = value
    return "fp32", f"fp32 instead of {name}: {reason}"


def noise(count: int, size: int) -> np.ndarray:
    """The same images each time, uint8 (count, size, size, 3): fine and coarse noise in turn.

    Fine noise hardly reaches the deep layers, which average it out.
    """
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    cell = -(-size // 10)
    for image in images[1::2]:
        coarse = image[:10, :10].repeat(cell, axis=0).repeat(cell, axis=1)
        image[:] = coarse[:size, :size]
    return images


def release_memory() -> None:
    """Returns the GPU memory of deleted networks, which PyTorch keeps for later, to the system."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def choose_device(name: str) -> torch.device:
    """The PyTorch device for `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        ValueError: the name is none of these, or there is no such device.
    """
    check_device(name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(
            f"device '{name}' not found: PyTorch {torch.__version__} reports {count} CUDA devices"
        )
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """`fp32`, `bf16` or `fp16`; `auto` is the fastest that keeps the detections the same."""
    if name == "auto":
        return "fp16" if device.type == "cuda" else "fp32"
    if name == "int8":
        raise ValueError("precision 'int8' needs backend 'openvino', which runs on the CPU")
    if name not in PRECISIONS:
        raise ValueError(f"precision must be auto, {', '.join(PRECISIONS)}, got '{name}'")
    return name
