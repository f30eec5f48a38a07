# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM end a process with exit code 0: in any phase, soon, and only once.

Python's KeyboardInterrupt and rclpy's handlers interrupt whatever is running, also the end itself.
Here a thread reads the signals, and nothing is interrupted. Imports nothing slow, so that it is in
force while the rest is imported.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

STOP_WITHIN = 3.0  # seconds from the first signal until the process ends all the same
_NUMBERS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """What the first SIGINT or SIGTERM starts; further ones change nothing.

    Until `call` has been used, a signal ends the process at once: nothing needs an orderly end.
    """

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # of the callback
        self._callback: Callable[[], None] | None = None
        read, write = os.pipe()
        os.set_blocking(write, False)
        # Python writes the numbers of all signals into the pipe, from whatever thread is running.
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in _NUMBERS:
            signal.signal(number, lambda *_: None)
        threading.Thread(target=self._watch, args=(read,), name="signals", daemon=True).start()

    @property
    def stopping(self) -> bool:
        """Whether a signal has been received."""
        return self._stopping.is_set()

    def call(self, callback: Callable[[], None]) -> None:
        """Sets what the first signal calls, in a thread of its own."""
        with self._lock:
            self._callback = callback
        if self.stopping:
            callback()

    def finish(self) -> None:
        """Ignores further signals once one has been received; call it last, in the main thread.

        Python's exit gives them back their default, which would end the process with another code.
        """
        if self.stopping:
            for number in _NUMBERS:
                signal.signal(number, signal.SIG_IGN)

    def _watch(self, pipe: int) -> NoReturn:
        while os.read(pipe, 1)[0] not in _NUMBERS:
            pass
        with self._lock:
            self._stopping.set()
            callback = self._callback
        if callback is not None:
            # In another thread: what it waits for may never come, but the process must end.
            threading.Thread(target=callback, name="stop", daemon=True).start()
            time.sleep(STOP_WITHIN)
            print(f"still busy {STOP_WITHIN:g} s after the signal, ended", file=sys.stderr)
        end_now(0)


def end_now(code: int) -> NoReturn:
    """Ends the process without waiting for threads, which may be in the middle of anything."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, or nobody reads it
            stream.flush()
    os._exit(code)


@functools.cache
def install() -> StopSignals:
    """The process's one instance; the first call makes it, in the main thread."""
    return StopSignals()
