# SPDX-License-Identifier: Apache-2.0
"""Images for any number of viewers: each gets the newest, and each is encoded once."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Protocol

import numpy as np

MAX_RATE = 15.0  # images per second; encoding and sending them takes time from the network


class Frame(Protocol):
    """What is streamed."""

    def jpeg(self) -> np.ndarray:
        """The JPEG: uint8 (N,). Called in the encoder's thread."""


class Stream:
    """The images of one camera.

    There is no queue: a frame that was not encoded yet is replaced by the next, and a viewer that
    is slow gets the newest image when it is ready for one.

    Args:
        loop: runs all methods except `offer`.
        encoder: encodes the frames.
        report: gets a text about each frame that cannot be encoded.

    Attributes:
        viewers: how many wait for images; without them frames are ignored.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, encoder: Executor, report: Callable[[str], None]
    ) -> None:
        self.viewers = 0
        self._loop = loop
        self._encoder = encoder
        self._report = report
        self._lock = threading.Lock()  # of `viewers` and the next: `offer` is of another thread
        self._newest: Frame | None = None
        self._offered = asyncio.Event()
        self._encoded = asyncio.Event()  # replaced by another for each image
        self._number, self._jpeg = 0, b""
        self._task: asyncio.Task[None] | None = None

    def offer(self, frame: Frame) -> None:
        """Takes a frame, from any thread, and returns at once."""
        with self._lock:
            if not self.viewers:
                return
            self._newest = frame
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server ends
            self._loop.call_soon_threadsafe(self._offered.set)

    @contextlib.contextmanager
    def viewing(self) -> Iterator[None]:
        """Frames are encoded during the block, for it and for all other viewers."""
        with self._lock:
            self.viewers += 1
        if self._task is None:
            self._task = asyncio.create_task(self._encode())
        try:
            yield
        finally:
            with self._lock:
                self.viewers -= 1
                if not self.viewers:
                    self._newest = None
            if not self.viewers:
                self._task.cancel()
                self._task, self._jpeg = None, b""

    async def next(self, number: int, timeout: float) -> tuple[int, bytes]:
        """The newest image that is not the one of this number.

        Args:
            number: of the image that the caller had last; 0 for none.
            timeout: seconds to wait for one.

        Returns:
            Its number and the JPEG, which is empty if there was none in time.
        """
        if self._number == number or not self._jpeg:
            try:
                await asyncio.wait_for(self._encoded.wait(), timeout)
            except asyncio.TimeoutError:
                return number, b""
        return self._number, self._jpeg

    async def _encode(self) -> None:
        while True:
            await self._offered.wait()
            self._offered.clear()
            with self._lock:
                frame, self._newest = self._newest, None
            if frame is None:
                continue
            begin = time.monotonic()
            try:
                jpeg = await self._loop.run_in_executor(self._encoder, _encode, frame)
            except Exception as error:  # of one image; the next may be fine
                self._report(f"cannot encode an image for the web page: {error}")
                continue
            del frame  # its image may be large, and the next come late
            self._number, self._jpeg = self._number + 1, jpeg
            encoded, self._encoded = self._encoded, asyncio.Event()
            encoded.set()
            await asyncio.sleep(max(0.0, begin + 1 / MAX_RATE - time.monotonic()))


def _encode(frame: Frame) -> bytes:
    return frame.jpeg().tobytes()
