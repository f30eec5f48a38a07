# SPDX-License-Identifier: Apache-2.0
"""One process, or several under torchrun; and the signals that end a training."""

from __future__ import annotations

import contextlib
import os
import signal
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ssd_ros.backends.pytorch import choose_device
from ssd_ros.command_line import plural

# Longer than any validation. In the control group only: a stuck exchange of gradients still ends
# with the backend's own timeout.
_CONTROL_TIMEOUT = timedelta(days=1)


class Processes:
    """This process and the others of the run. With one process no method communicates.

    Args:
        device: `--device`; under torchrun each process takes the CUDA device of its local rank.

    Raises:
        ValueError: there is no such device.
    """

    def __init__(self, device: str) -> None:
        self.device = choose_device(device)
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        self._control: Any = None
        if self.count > 1:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            # The others wait while rank 0 validates. A nccl barrier aborts them after 10 or 30
            # minutes, which COCO-sized sets exceed. gloo also needs no GPU for a few numbers.
            self._control = dist.new_group(backend="gloo", timeout=_CONTROL_TIMEOUT)

    @property
    def is_main(self) -> bool:
        """Whether this process validates, writes the files and prints: rank 0."""
        return self.rank == 0

    @property
    def device_name(self) -> str:
        """The device in words, for logs and `run.json`."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{self.device} with {plural(torch.get_num_threads(), 'thread')}"

    def sum(self, *values: float) -> list[float]:
        """Each value summed over all processes; every process must call it."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, group=self._control)
        return tensor.tolist()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; every process must call it."""
        return self.sum(flag)[0] > 0

    def wait(self) -> None:
        """Blocks until every process has called it."""
        if self.count > 1:
            dist.barrier(group=self._control)

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model, wrapped so that its gradients are averaged over the processes."""
        if self.count == 1:
            return model
        return DistributedDataParallel(model, [self.device] if self.device.type == "cuda" else None)

    def close(self) -> None:
        """Leaves the process group; no other method may be called afterwards."""
        if self.count > 1:
            dist.destroy_process_group()


def is_main() -> bool:
    """`Processes.is_main` where the object is out of reach."""
    return int(os.environ.get("RANK", "0")) == 0


def gradients_exchanged(
    network: nn.Module, exchanged: bool
) -> contextlib.AbstractContextManager[None]:
    """A context for one of several backward passes of a step.

    Args:
        network: as `Processes.parallel` returns it.
        exchanged: False for all passes except the last, which exchanges the sum of all.
    """
    if isinstance(network, DistributedDataParallel) and not exchanged:
        return network.no_sync()
    return contextlib.nullcontext()


class Signals:
    """A context in which SIGINT and SIGTERM are recorded, so that a checkpoint can be written.

    The same signal a second time has its usual effect at once.

    Attributes:
        received: number of the last signal, 0 before the first.
    """

    WATCHED = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received = 0

    def __enter__(self) -> Signals:
        self._before = {number: signal.signal(number, self._record) for number in self.WATCHED}
        return self

    def _record(self, number: int, _frame: FrameType | None) -> None:
        if self.received == number:
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
