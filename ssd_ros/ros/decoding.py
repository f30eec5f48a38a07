# SPDX-License-Identifier: Apache-2.0
"""Decodes the frames of one camera in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ssd_ros.ros.camera import Camera
from ssd_ros.ros.frames import DecodedFrame


class FrameDecoder:
    """Takes a camera's frames in a thread, so that a slow image holds up no other camera.

    `begin` and `result` are called from one other thread, in turn.

    Args:
        camera: its `take` runs in the thread.
        wake: called in the thread when a frame is ready that `result` had not waited for.
    """

    def __init__(self, camera: Camera, wake: Callable[[], None]) -> None:
        self.camera = camera
        self._wake = wake
        self._changed = threading.Condition()  # guards all that follows
        self._limits: tuple[float, int] | None = None  # while a frame is being decoded
        self._result: DecodedFrame | None = None
        self._since = 0.0
        self._late = False
        self._closed = False
        # A daemon: an image that takes for ever must not keep the process from ending.
        threading.Thread(target=self._run, name="decoding", daemon=True).start()

    @property
    def busy_for(self) -> float:
        """Seconds for which the present frame has been decoded; 0 without one."""
        with self._changed:
            return 0.0 if self._limits is None else time.monotonic() - self._since

    def begin(self, max_age: float, min_size: int) -> None:
        """Starts to decode the newest frame, unless there is none or another is not finished.

        Args:
            max_age, min_size: as of `Camera.take`.
        """
        with self._changed:
            free = self._limits is None and self._result is None and not self._closed
            if free and self.camera.has_frame:
                self._limits, self._since = (max_age, min_size), time.monotonic()
                self._changed.notify_all()

    def result(self, timeout: float) -> DecodedFrame | None:
        """The frame that was begun, once.

        Args:
            timeout: seconds to wait for it; a frame is waited for only once.

        Returns:
            None if nothing was begun, if it is not ready, or cannot be decoded.
        """
        with self._changed:
            if self._limits is not None and not self._late:
                self._changed.wait_for(lambda: self._limits is None, timeout)
            self._late = self._limits is not None
            if self._late:
                return None
            frame, self._result = self._result, None
        if self.camera.has_frame:  # it did not wake the loop while this one was being decoded
            self._wake()
        return frame

    def close(self) -> None:
        """Ends the thread, after its present frame, which is discarded."""
        with self._changed:
            self._closed = True
            frame, self._result = self._result, None
            self._changed.notify_all()
        if frame is not None:
            self.camera.give_up("discarded")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._limits is not None or self._closed)
                if self._limits is None:
                    return
                limits = self._limits
            frame = self.camera.take(*limits)
            with self._changed:
                self._limits = None
                if not self._closed:
                    self._result, frame = frame, None
                late = self._late
                self._changed.notify_all()
            if frame is not None:
                self.camera.give_up("discarded")
            if late:
                self._wake()
