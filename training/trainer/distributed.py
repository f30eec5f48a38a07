# SPDX-License-Identifier: Apache-2.0
"""One process or several under torchrun, and the signals that end them."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType

import torch
import torch.distributed as dist

from ssd_ros.backends.pytorch import choose_device


class Processes:
    """This process among those of the run; alone, every method costs nothing.

    Args:
        device: `--device`; under torchrun each process takes the CUDA device of its local rank.
    """

    def __init__(self, device: str) -> None:
        self.device = choose_device(device)
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if self.count > 1:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    @property
    def device_name(self) -> str:
        """The device for people."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{self.device} with {torch.get_num_threads()} threads"

    def sum(self, *values: float) -> list[float]:
        """The sums of each process's values."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def wait(self) -> None:
        """Until every process is here."""
        if self.count > 1:
            dist.barrier()

    def close(self) -> None:
        if self.count > 1:
            dist.destroy_process_group()


class Signals:
    """Notes SIGINT and SIGTERM instead of dying of them, so that a checkpoint can be written."""

    WATCHED = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received = 0

    def __enter__(self) -> Signals:
        self._before = {number: signal.signal(number, self._note) for number in self.WATCHED}
        return self

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.received == number:  # the second time: at once
            signal.signal(number, self._before[signal.Signals(number)])
            signal.raise_signal(number)
        self.received = number

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
