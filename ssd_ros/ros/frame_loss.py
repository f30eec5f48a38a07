# SPDX-License-Identifier: Apache-2.0
"""Frame loss between publisher and subscription, by the middleware's own count. No ROS.

Header stamps cannot tell a lost image from one that was never published: cameras change their rate,
are throttled, triggered, paused and played from bags. A publisher's sequence numbers count what it
published, and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

WINDOW = 10.0  # seconds that an estimate covers
ENOUGH = 20  # published images that an estimate needs
NOTICEABLE = 0.1  # share of lost images that is reported
HOLES = 3  # separate losses; fewer are an interruption: a suspended process, a busy moment


@dataclass(frozen=True)
class FrameLoss:
    """The loss of the last seconds.

    Attributes:
        share: lost images among all that were published, 0 to 1.
        holes: number of separate losses, each of one or more consecutive images.
    """

    share: float
    holes: int

    @property
    def noticeable(self) -> bool:
        return self.share >= NOTICEABLE and self.holes >= HOLES


class Arrival(NamedTuple):
    """How an image came.

    Attributes:
        sequence: number that the publisher gave it; None where the middleware does not tell.
        prompt: whether it was taken as soon as it had come. One that had to wait has replaced
            those that came before it in the meantime: the node was slow, and what is missing may
            not be lost.
    """

    sequence: int | None = None
    prompt: bool = False


UNKNOWN = Arrival()


class FrameLossEstimator:
    """Counts the images that were published on a topic but not received.

    Two sources, of which a middleware may have one, both or none: the sequence number that the
    publisher gave a received image, and the middleware's report of lost ones. Sequence numbers also
    show what a reliable publisher dropped from its queue, but they are of use only while one
    publisher sends.
    """

    def __init__(self) -> None:
        self._received: deque[tuple[float, Arrival]] = deque()
        self._reported: deque[tuple[float, int]] = deque()  # time, number of images
        self._publishers: Hashable = None

    def clear(self) -> None:
        """Forgets everything; the topic is no longer subscribed."""
        self._received.clear()
        self._reported.clear()

    def note_received(self, now: float, arrival: Arrival) -> None:
        """Adds a received image.

        Args:
            now: seconds of a steady clock.
        """
        self._received.append((now, arrival))
        self._forget(now)

    def note_reported(self, now: float, count: int) -> None:
        """Adds images that the middleware reports as lost."""
        self._reported.append((now, count))
        self._forget(now)

    def estimate(self, publishers: frozenset[Hashable]) -> FrameLoss | None:
        """The loss of the last seconds.

        Args:
            publishers: identify the topic's publishers. When they are not those of the previous
                call, counting starts anew: another publisher counts from another number.

        Returns:
            None while too little is known.
        """
        if publishers != self._publishers:
            self._publishers = publishers
            self.clear()
        gaps = self._gaps() if len(publishers) == 1 else None
        if gaps is None:
            gaps = [count for _, count in self._reported]
        lost = sum(gaps)
        published = lost + len(self._received)
        return FrameLoss(lost / published, len(gaps)) if published >= ENOUGH else None

    def _gaps(self) -> list[int] | None:
        """Numbers of images between two received ones; None where numbers are not known."""
        arrivals = [arrival for _, arrival in self._received]
        numbers = [arrival.sequence for arrival in arrivals if arrival.sequence is not None]
        if not numbers or len(numbers) < len(arrivals):
            return None
        missing = [after - before - 1 for before, after in pairwise(numbers)]
        if (
            min(missing, default=0) < 0
        ):  # the publisher was replaced between two calls of `estimate`
            return []
        pairs = zip(missing, arrivals[1:], strict=True)
        return [count for count, arrival in pairs if count and arrival.prompt]

    def _forget(self, now: float) -> None:
        for noted in (self._received, self._reported):
            while noted and now - noted[0][0] > WINDOW:
                noted.popleft()
