# SPDX-License-Identifier: Apache-2.0
"""One image topic, subscribed as a detector does it: rate, format, and whether images decode."""

from __future__ import annotations

import time

from rclpy.node import Node

from ssd_ros.image import ImageError
from ssd_ros.messages.images import image_from_compressed_msg, image_from_msg
from ssd_ros.ros.endpoints import Endpoints
from ssd_ros.ros.frame_loss import Arrival
from ssd_ros.ros.frozen_graph import FrozenGraph
from ssd_ros.ros.graph_snapshot import ImageTopic
from ssd_ros.ros.image_subscription import FrameMsg, ImageSubscription
from ssd_ros.ros.image_topics import COMPRESSED
from ssd_ros.ros.image_transport import COMPRESSED_SUFFIX


class TopicWatch:
    """Counts the images of a topic, from now on.

    Args:
        node: creates the subscription.
        name: of the topic.
        kind: `image_topics.RAW` or `COMPRESSED`.
    """

    def __init__(self, node: Node, name: str, kind: str) -> None:
        self._node, self._name, self._kind = node, name, kind
        self._received: list[float] = []
        self._last: FrameMsg | None = None
        self._subscription: ImageSubscription | None = None
        compressed = kind == COMPRESSED
        if not compressed or name.endswith(
            COMPRESSED_SUFFIX
        ):  # a detector cannot subscribe to others
            base = name.removesuffix(COMPRESSED_SUFFIX) if compressed else name
            self._subscription = ImageSubscription(node, base, compressed, None, lambda count: None)
            self._subscription.subscribe(self._note)

    def adapt(self) -> None:
        """Follows the QoS of the publishers."""
        if self._subscription is not None:
            self._subscription.adapt()

    def result(self, graph: FrozenGraph) -> ImageTopic:
        """What was seen so far.

        Args:
            graph: of this moment.
        """
        endpoints = Endpoints.of(graph, self._name)
        times = self._received
        rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
        image, error = _describe(self._last)
        stamp = self._last.header.stamp if self._last else None
        offered = {
            f"{info.qos_profile.reliability.name}, {info.qos_profile.durability.name}"
            for info in endpoints.publishers
        }
        return ImageTopic(
            self._name,
            self._kind,
            endpoints.connections(),
            "; ".join(sorted(offered)).lower().replace("_", " "),
            len(times),
            rate,
            image,
            error,
            stamp is None or bool(stamp.sec or stamp.nanosec),
            time.monotonic() - times[-1] if times else 0.0,
        )

    def _note(self, message: FrameMsg, arrival: Arrival) -> None:
        self._received.append(time.monotonic())
        self._last = message


def _describe(message: FrameMsg | None) -> tuple[str, str]:
    """Format and size of an image, and why it cannot be decoded."""
    if message is None:
        return "", ""
    is_raw = hasattr(message, "encoding")
    try:
        image = image_from_msg(message) if is_raw else image_from_compressed_msg(message)
    except ImageError as error:
        return "", str(error)
    except Exception as error:  # the other topics are told all the same
        return "", f"{type(error).__name__}: {error}"
    encoding = message.encoding if is_raw else message.format
    return f"{encoding[:40]} {image.width}x{image.height}", ""
