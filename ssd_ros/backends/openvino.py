# SPDX-License-Identifier: Apache-2.0
"""OpenVINO on the CPU, without PyTorch."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import openvino as ov

from ssd_ros.backends import openvino_graph
from ssd_ros.backends.backend import BackendOptions
from ssd_ros.command_line import plural
from ssd_ros.model.not_finite import NotFiniteError
from ssd_ros.weights.weights import Weights

_WHY_AUTO = {
    "int8": "int8 as the weights are quantised",
    "bf16": "bf16 as the processor has it",
    "fp32": "fp32 as the processor has no bf16",
}
_TYPES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
# Instructions that add products of 8-bit integers in 32 bits, as the kernel calls them.
_DOT_PRODUCT_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"}


class OpenVINOBackend:
    """A `Backend` that runs the network with OpenVINO.

    The images of a batch run one after the other: one image keeps every core busy, a batch would
    need a second copy of the weights for its shape, and each image's result is the same in any
    batch.

    Args:
        weights: the network.
        options: precision and threads; the device must be the CPU.

    Raises:
        ValueError: no such device or precision here.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, weights: Weights, options: BackendOptions = BackendOptions()) -> None:  # noqa: B008
        if options.device not in ("auto", "cpu"):
            raise ValueError(
                f"device must be auto or cpu for backend 'openvino', got '{options.device}'"
            )
        core = engine()
        supported = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        quantised = weights.quantisation is not None
        self.precision = choose_precision(options.precision, supported, quantised)
        bits = weight_bits() if self.precision == "int8" else None
        # What is not quantised runs in the precision of weights that are not.
        floats = self.precision if bits is None else choose_precision("auto", supported)
        compiled = core.compile_model(
            openvino_graph.build(weights, bits),
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                # OpenVINO's own default is bf16 on processors that have it.
                "INFERENCE_PRECISION_HINT": _TYPES[floats],
                "INFERENCE_NUM_THREADS": options.threads,  # 0: all
                # Pinned threads could not give way to the robot's other processes.
                "ENABLE_CPU_PINNING": False,
            },
        )
        threads = compiled.get_property("INFERENCE_NUM_THREADS")
        version = ov.get_version().split("-")[0]
        with_bits = f" with {bits}-bit weights" if bits else ""
        self.note = f"OpenVINO {version}, {self.precision}{with_bits}, {plural(threads, 'thread')}"
        if options.precision == "auto":
            self.note += f"; {_WHY_AUTO[self.precision]}"
        if bits == 7:
            self.note += "; 7 bits as the processor has no 8-bit dot products"
        self._request: ov.InferRequest | None = compiled.create_infer_request()
        self._shapes = [tuple(output.shape)[1:] for output in compiled.outputs]
        self._outputs = [np.empty((0, *shape), np.float32) for shape in self._shapes]

    def infer(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits and offsets of a uint8 RGB batch (B, S, S, 3).

        Raises:
            NotFiniteError: they are not finite. An overflow inside the network cannot be seen here,
                as OpenVINO's ReLU makes 0 of NaN; it needs values beyond float32's range, which
                bf16 has, too.
        """
        if self._request is None:
            raise RuntimeError("the backend is closed")
        count = len(images)
        if count > len(self._outputs[0]):
            self._outputs = [np.empty((count, *shape), np.float32) for shape in self._shapes]
        for i in range(count):
            # The request reads and writes these slices in place.
            self._request.set_input_tensor(ov.Tensor(images[i : i + 1], shared_memory=True))
            for k, output in enumerate(self._outputs):
                tensor = ov.Tensor(output[i : i + 1], shared_memory=True)
                self._request.set_output_tensor(k, tensor)
            self._request.infer()
        logits, offsets = (output[:count] for output in self._outputs)
        # A NaN anywhere makes the extremes NaN; they need no temporary array.
        if not np.isfinite([logits.min(), logits.max(), offsets.min(), offsets.max()]).all():
            raise NotFiniteError(self.precision)
        return logits, offsets

    def warm_up(self, batch: int) -> None:
        """Does nothing: all that can be prepared is, and every batch size takes the same way."""

    def close(self) -> None:
        """Releases the network."""
        self._request = None


@functools.cache
def engine() -> ov.Core:
    """OpenVINO's one engine for the process, which is never destroyed.

    Each engine gives the thread another stack for signal handlers, and on its end restores the one
    before. With two of them the first to end frees the stack that the second restores, and the
    next signal ends the process.
    """
    return ov.Core()


def choose_precision(name: str, supported: list[str], quantised: bool = False) -> str:
    """The precision to run in.

    `auto` is int8 for quantised weights, else bf16 where the processor has it, else fp32.

    Args:
        name: `auto`, or of `backend.PRECISIONS`.
        supported: OpenVINO's names of the types that the processor has instructions for.
        quantised: whether the weights have what int8 needs.

    Raises:
        ValueError: the processor does not have the type, or the weights are not quantised.
    """
    here = [key for key in (*_TYPES, "int8") if key.upper() in supported]
    if name == "auto":
        if quantised and "int8" in here:
            return "int8"
        return "bf16" if "bf16" in here else "fp32"
    if name == "int8" and not quantised:
        raise ValueError(
            "precision 'int8' needs quantised weights, these are not; "
            "make them with: python -m training.quantize WEIGHTS --data DIR"
        )
    if name not in here:
        raise ValueError(
            f"precision must be auto, {', '.join(here)} for OpenVINO on this processor, "
            f"got '{name}'"
        )
    return name


def weight_bits(cpuinfo: Path = Path("/proc/cpuinfo")) -> int:
    """Bits of the integers that quantised weights are rounded to on this processor: 8 or 7.

    Without dot-product instructions pairs of products are added in 16 bits, which saturate:
    2 * 255 * 127 is over 32767, while 2 * 255 * 63 is not.

    Args:
        cpuinfo: the kernel's description of the processor; where there is none, 7 is safe.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return 7
    flags = {
        flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()
    }
    return 8 if flags & _DOT_PRODUCT_FLAGS else 7
