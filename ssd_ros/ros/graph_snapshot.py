# SPDX-License-Identifier: Apache-2.0
"""A ROS graph as it was for some seconds, as plain values. No rclpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Connection:
    """What keeps a publisher's images from a subscription.

    Attributes:
        publisher: name of the publisher's node.
        obstacle: in words; empty where nothing is known to.
        fix: what to do about it.
    """

    publisher: str
    obstacle: str = ""
    fix: str = ""


@dataclass(frozen=True)
class ImageTopic:
    """An image topic, and what arrived of it in a subscription like a detector's.

    Attributes:
        kind: name of the message type; empty where the topic has no publishers.
        connections: one for each publisher; none where all have ended while it was watched.
        qos: reliability and durability that the publishers offer, in words.
        received: number of images.
        rate: of these, in Hz; 0 for fewer than two.
        image: encoding and size of the last image; empty without one.
        error: why that one could not be decoded.
        stamped: whether its stamp is set.
        silence: seconds since it was received; 0 without one.
    """

    name: str
    kind: str = ""
    connections: Sequence[Connection] = ()
    qos: str = ""
    received: int = 0
    rate: float = 0.0
    image: str = ""
    error: str = ""
    stamped: bool = True
    silence: float = 0.0


@dataclass(frozen=True)
class RunningDetector:
    """A detector node.

    Attributes:
        name: fully qualified.
        state: of its life cycle; empty where it did not answer.
        parameters: values by name, as far as it told them.
        statuses: level (0 OK, 1 WARN, 2 ERROR, 3 STALE), name and message, from /diagnostics.
        subscriptions: the image topics that it is subscribed to, with their publishers.
    """

    name: str
    state: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    statuses: Sequence[tuple[int, str, str]] = ()
    subscriptions: Mapping[str, Sequence[Connection]] = field(default_factory=dict)


@dataclass(frozen=True)
class GraphSnapshot:
    """What was seen of a graph.

    Attributes:
        seconds: for which it was watched.
        nodes: fully qualified names; one that several nodes have is there as often.
        existing: names of all image topics, those of detectors' outputs left out.
        asked: resolved names of the image topics that were asked for; none means all.
        topics: those that were watched, and those that were asked for and do not exist.
        detectors: in the order of their names.
        has_clock: whether somebody publishes /clock.
        peer_found: whether a node in another process was discovered.
        peer_failure: why there was no such node; empty if there was.
    """

    seconds: float
    nodes: Sequence[str] = ()
    existing: Sequence[str] = ()
    asked: Sequence[str] = ()
    topics: Sequence[ImageTopic] = ()
    detectors: Sequence[RunningDetector] = ()
    has_clock: bool = False
    peer_found: bool = True
    peer_failure: str = ""
