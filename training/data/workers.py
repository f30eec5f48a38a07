# SPDX-License-Identifier: Apache-2.0
"""The processes that load data: which signals end them, and what their end does to the training."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Generic, TypeVar

import cv2
from torch.utils.data import DataLoader

T = TypeVar("T")
_PATIENCE = 5.0  # seconds; reading an image takes less
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class WorkerLost(RuntimeError):
    """A data loading process has ended before the training; the message says how."""


class Stream(Generic[T]):
    """The batches of a DataLoader, as a context that ends the loader's processes when it is left.

    Args:
        loader: with `prepare` as its `worker_init_fn`.

    Raises:
        WorkerLost: when the context is left by an exception, and a process has died.
    """

    def __init__(self, loader: DataLoader[T]) -> None:
        before = set(multiprocessing.active_children())
        resource_tracker.ensure_running()  # it unblocks the signals when it is started
        # A service manager or `kill -- -GROUP` sends the signal to the workers, too, but the
        # trainer needs them until its iteration is done. The workers inherit the mask, and so does
        # every thread of theirs: none can take the signal before `prepare` decides.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._batches: Iterator[T] | None = iter(loader)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._workers = set(multiprocessing.active_children()) - before

    def __iter__(self) -> Stream[T]:
        return self

    def __next__(self) -> T:
        if self._batches is None:
            raise StopIteration
        return next(self._batches)

    def close(self) -> list[BaseProcess]:
        """Ends the processes; there are no batches afterwards.

        Returns:
            Those that had not ended as they should.
        """
        # PyTorch's handler raises an error about a process that was killed, wherever that comes.
        handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            lost = [worker for worker in self._workers if worker.exitcode]
            self._batches = None  # without another reference, they end by themselves
            for worker in self._workers:
                worker.terminate()  # nothing if it has ended
                worker.join(_PATIENCE)
                if worker.is_alive():
                    worker.kill()
                    worker.join()
                elif worker.exitcode and worker not in lost:
                    lost.append(worker)
        finally:
            signal.signal(signal.SIGCHLD, handler)
        return lost

    def __enter__(self) -> Stream[T]:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        try:
            lost = self.close()
        except RuntimeError as late:  # of PyTorch's handler, before it was replaced
            error = error or late
            lost = self.close()
        # An error about an image is no consequence of a lost process.
        if isinstance(error, RuntimeError | OSError | EOFError) and lost:
            raise WorkerLost(_describe(lost[0])) from error


def _describe(worker: BaseProcess) -> str:
    code = worker.exitcode or 0
    end = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return (
        f"data loading process {worker.pid} {end}; continue with --resume, and with fewer "
        "--workers if memory is short"
    )


def prepare(_worker: int) -> None:
    """Prepares a process that a `Stream` started; for `worker_init_fn` of a DataLoader."""
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None
    assert parent.pid is not None
    threading.Thread(target=_follow, args=(parent.pid,), daemon=True).start()


def _follow(parent: int) -> None:
    """Ends this process at a SIGTERM of its parent, or soon after the parent's end.

    The parent must be able to end it: multiprocessing sends the signal at the parent's exit, and
    waits without limit.
    """
    while os.getppid() == parent:
        received = signal.sigtimedwait({signal.SIGTERM}, 1.0)
        if received is not None and received.si_pid == parent:
            break
    os._exit(0)  # another code would be an error in the parent
