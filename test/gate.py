# SPDX-License-Identifier: Apache-2.0
"""Holds the detectors of this process at a chosen moment."""

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from ssd_ros.detector import Detector
from ssd_ros.image import Image

T = TypeVar("T")


class Gate:
    """Holds every detector of this process before its next batch while it is closed.

    Attributes:
        held: whether a batch waits at the closed gate.
        batches: how many images each batch had that went through.
    """

    def __init__(self) -> None:
        self.held = False
        self.batches: list[int] = []
        self._opened = threading.Event()
        self.open()

    def open(self) -> None:
        self._opened.set()

    def close(self) -> None:
        self._opened.clear()

    def guard(self, detect: Callable[..., T]) -> Callable[..., T]:
        """The function that does what `detect` does, once the gate is open."""

        def detect_when_open(detector: Detector, images: Sequence[Image]) -> T:
            self.held = not self._opened.is_set()
            self._opened.wait()
            self.held = False
            self.batches.append(len(images))
            return detect(detector, images)

        return detect_when_open
