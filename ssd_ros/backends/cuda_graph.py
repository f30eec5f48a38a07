# SPDX-License-Identifier: Apache-2.0
"""The network as CUDA graphs: one launch a batch instead of one for each of its kernels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ssd_ros.model.precision import Outputs
from ssd_ros.model.ssd import SSD


class CudaGraph:
    """The network on batches of one size, recorded once; it may be replayed by another thread.

    Args:
        model: on a CUDA device. Its parameters must stay where they are.
        batch: images in the batch.
        pool: of `torch.cuda.graph_pool_handle`, shared by graphs that never run at the same time.
            A replay overwrites the outputs of the others.

    Raises:
        RuntimeError: the network cannot be recorded.
    """

    @torch.inference_mode()
    def __init__(self, model: SSD, batch: int, pool: Any) -> None:
        size, self._device = model.config.input_size, model.defaults.device
        shape = (batch, size, size, 3)
        # Only from page-locked memory does a copy run beside the CPU.
        self._staging = torch.zeros(shape, dtype=torch.uint8, pin_memory=True)
        self._input = torch.zeros(shape, dtype=torch.uint8, device=self._device)
        self._copied = torch.cuda.Event()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device), fastest_algorithms():
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):  # chooses algorithms and allocates, which a recording must not
                    model(model.normalise(self._input))
            stream.synchronize()
            # thread_local: the inference thread of a running node goes on with the old weights.
            with torch.cuda.graph(
                self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"
            ):
                self._outputs: Outputs = model(model.normalise(self._input))

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> Outputs:
        """Logits and offsets of a uint8 batch, valid until the next call; does not wait for them.

        Args:
            images: (batch, S, S, 3).
        """
        self._copied.synchronize()  # the previous batch may still be on its way
        self._staging.copy_(torch.from_numpy(images))
        self._input.copy_(self._staging, non_blocking=True)
        self._copied.record(torch.cuda.current_stream(self._device))
        self._graph.replay()
        return self._outputs


@contextlib.contextmanager
def fastest_algorithms() -> Iterator[None]:
    """cuDNN measures its algorithms for each new shape, here only: a training stays repeatable."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
