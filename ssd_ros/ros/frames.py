# SPDX-License-Identifier: Apache-2.0
"""The frames of a camera, and what became of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from rclpy.clock import Clock
from rclpy.qos import ReliabilityPolicy
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from ssd_ros.image import Image
from ssd_ros.ros.frame_loss import FrameLoss
from ssd_ros.ros.image_subscription import FrameMsg

RECENT = 200  # images that medians and percentiles are taken over


@dataclass
class Counts:
    """What became of a camera's frames since the node was configured.

    Each frame received is in one of the other counts, or waits, or is being processed.

    Attributes:
        failed: frames in which detection failed.
        discarded: frames of before a pause or a transition that were not processed in time.
        last_bad: why the last invalid frame was refused.
        last_is_bad: whether no frame has been processed since that one.
        unstamped: processed frames whose stamp is 0, or for which the clock is not set.
        latencies: seconds from the stamps of the latest frames to their detections' publication;
            without the unstamped ones.
        processing_latency: seconds from the arrival of the latest frames to the same.
    """

    received: int = 0
    processed: int = 0
    superseded: int = 0
    too_old: int = 0
    bad: int = 0
    failed: int = 0
    discarded: int = 0
    unstamped: int = 0
    last_bad: str = ""
    last_is_bad: bool = False
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    processing_latency: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))


class ReceivedFrame(NamedTuple):
    """A message, the time.monotonic() at which it was received, and in which subscription."""

    message: FrameMsg
    received_at: float
    session: int


class FrameSlot:
    """The newest frame of a camera until it is taken, and the counts; any thread may call it.

    Args:
        on_drop: called with the reason for each frame that will not be answered.

    Attributes:
        session: how often `clear` was called: frames of earlier subscriptions are not answered.
    """

    def __init__(self, on_drop: Callable[[str], None]) -> None:
        self._on_drop = on_drop
        self._lock = threading.Lock()
        self._newest: ReceivedFrame | None = None
        self._counts = Counts()
        self.session = 0

    @property
    def full(self) -> bool:
        """Whether a frame waits to be taken."""
        return self._newest is not None

    def put(self, frame: ReceivedFrame) -> bool:
        """Replaces a frame that was not taken yet.

        Returns:
            False for a frame of an earlier session, whose callback came late; it is discarded.
        """
        with self._lock:
            self._counts.received += 1
            late = frame.session != self.session
            superseded = not late and self._newest is not None
            self._counts.discarded += late
            self._counts.superseded += superseded
            if not late:
                self._newest = frame
        if late or superseded:
            self._on_drop("discarded" if late else "superseded by a newer one")
        return not late

    def take(self) -> ReceivedFrame | None:
        """Takes the frame out; None without one."""
        with self._lock:
            frame, self._newest = self._newest, None
            return frame

    def clear(self) -> None:
        """Discards the frame, and from now on all that were received before."""
        with self._lock:
            self.session += 1
            dropped, self._newest = self._newest is not None, None
            self._counts.discarded += dropped
        if dropped:
            self._on_drop("discarded")

    def add(self, name: Literal["too_old", "failed", "discarded"]) -> None:
        """Adds a frame to one of the counts."""
        with self.counting() as counts:
            setattr(counts, name, getattr(counts, name) + 1)
        self._on_drop(name.replace("_", " "))

    def note_processed(self, frame: DecodedFrame, clock: Clock) -> None:
        """Counts a frame whose detections have just been published, and its latencies."""
        known = bool(
            clock.now().nanoseconds and (frame.header.stamp.sec or frame.header.stamp.nanosec)
        )
        with self._lock:
            self._counts.processed += 1
            self._counts.last_is_bad = False
            self._counts.unstamped += not known
            self._counts.processing_latency.append(time.monotonic() - frame.received_at)
            if known:
                self._counts.latencies.append(age(frame.header, clock))

    @contextmanager
    def counting(self) -> Iterator[Counts]:
        """The counts, to be changed in the block."""
        with self._lock:
            yield self._counts

    def counts(self) -> Counts:
        """A copy of the counts."""
        with self._lock:
            return replace(
                self._counts,
                latencies=self._counts.latencies.copy(),
                processing_latency=self._counts.processing_latency.copy(),
            )


class DecodedFrame(NamedTuple):
    """A frame's image, with the header that its detections get."""

    header: Header
    image: Image
    received_at: float
    session: int


@dataclass(frozen=True)
class CameraSnapshot:
    """The state of a camera at one moment.

    Attributes:
        topic: name of the subscribed topic.
        reliability: of the subscription; None while the topic is not subscribed.
        seconds_since_image: since the last image, or since the topic was subscribed.
        loss: of the last seconds; None while too few images have been published.
    """

    topic: str
    reliability: ReliabilityPolicy | None
    seconds_since_image: float
    counts: Counts
    loss: FrameLoss | None


def stamp_ns(message: FrameMsg | Detection2DArray) -> int:
    """A message's stamp in nanoseconds; rclpy's Time refuses values that a frame can carry."""
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def age(header: Header, clock: Clock) -> float:
    """Seconds since a stamp."""
    return (clock.now().nanoseconds - header.stamp.sec * 10**9 - header.stamp.nanosec) * 1e-9
