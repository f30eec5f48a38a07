# SPDX-License-Identifier: Apache-2.0
"""The subscription to one image topic, whose reliability follows the topic's publishers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMsg

from ssd_ros.ros.frame_loss import UNKNOWN, Arrival
from ssd_ros.ros.image_transport import compressed_topic

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

RELIABILITIES = ("auto", "reliable", "best_effort")
FrameMsg: TypeAlias = "ImageMsg | CompressedImage"
OnMessage: TypeAlias = Callable[["FrameMsg", Arrival], None]
PROMPT = 10_000_000  # nanoseconds from the middleware's receipt to the callback; usually 1 to 3 ms
HAS_MESSAGE_INFO = hasattr(Subscription, "CallbackType")  # Humble passes only the message


class ImageSubscription:
    """Subscribes to an image topic with the QoS that receives every publisher's images.

    Args:
        node: creates the subscription.
        topic: resolved name of the image topic.
        compressed: subscribe to CompressedImage on TOPIC/compressed instead.
        group: callback group of the subscription; None for the node's default group.
        on_lost: called from the executor's thread with a number of messages that were lost.

    Raises:
        ValueError: the parameter qos_overrides.TOPIC.subscription.reliability has a wrong value.
    """

    def __init__(
        self,
        node: Node,
        topic: str,
        compressed: bool,
        group: CallbackGroup | None,
        on_lost: Callable[[int], None],
    ) -> None:
        self.topic = compressed_topic(topic) if compressed else topic
        self._node = node
        self._message_type = CompressedImage if compressed else ImageMsg
        self._type_name = f"sensor_msgs/msg/{self._message_type.__name__}"  # as the graph names it
        self._group = group
        self._on_lost = on_lost
        self._on_message: OnMessage | None = None
        self._subscription: Subscription | None = None
        self._parameter = self._declare_override()

    @property
    def active(self) -> bool:
        """Whether the topic is subscribed."""
        return self._subscription is not None

    @property
    def reliability(self) -> ReliabilityPolicy | None:
        """Reliability of the current subscription; None without one."""
        subscription = self._subscription  # another thread may replace it
        return subscription.qos_profile.reliability if subscription else None

    def publishers(self) -> list[TopicEndpointInfo]:
        """The topic's publishers of the subscribed message type, with the QoS that they offer."""
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        return [info for info in publishers if info.topic_type == self._type_name]

    def subscribe(self, on_message: OnMessage) -> None:
        """Subscribes to the topic; call it only while `active` is false.

        Args:
            on_message: called with each message from the executor's thread; for the last one
                possibly after `unsubscribe`.
        """
        self._on_message = on_message
        self._create(self._desired_reliability(ReliabilityPolicy.RELIABLE))

    def unsubscribe(self) -> None:
        """Destroys the subscription, if there is one."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def adapt(self) -> None:
        """Subscribes again if the publishers now require another reliability.

        Without publishers the subscription is reliable: it then receives a reliable publisher's
        images from the first one on. A best-effort publisher that appears later is followed here.
        """
        subscription = self._subscription
        if subscription is None:
            return
        desired = self._desired_reliability(subscription.qos_profile.reliability)
        if desired != subscription.qos_profile.reliability:
            self._node.get_logger().info(
                f"'{self.topic}': publishers changed, subscribing {desired.name.lower()}"
            )
            self._node.destroy_subscription(subscription)
            self._create(desired)

    def _declare_override(self) -> str:
        # rclpy's standard name, but with the value `auto`, which rclpy does not have.
        name = f"qos_overrides.{self.topic}.subscription.reliability"
        if not self._node.has_parameter(name):
            self._node.declare_parameter(name, "auto")
        check_override(name, self._node.get_parameter(name).value)
        return name

    def _create(self, reliability: ReliabilityPolicy) -> None:
        try:
            self._subscription = self._create_with_events(reliability, message_lost=self._lost)
        except UnsupportedEventTypeError:  # a middleware that does not report losses
            self._subscription = self._create_with_events(reliability)

    def _create_with_events(self, reliability: ReliabilityPolicy, **events: Any) -> Subscription:
        assert self._on_message is not None
        return self._node.create_subscription(
            self._message_type,
            self.topic,
            partial(_with_info if HAS_MESSAGE_INFO else _without_info, self._on_message),
            QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=reliability),
            qos_overriding_options=QoSOverridingOptions(
                (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH)
            ),
            callback_group=self._group,
            # rclpy's default warns of publishers that offer less; `adapt` follows those.
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False, **events),
        )

    def _lost(self, event: Any) -> None:
        self._on_lost(event.total_count_change)

    def _desired_reliability(self, default: ReliabilityPolicy) -> ReliabilityPolicy:
        override = str(self._node.get_parameter(self._parameter).value)
        if override != "auto":
            return ReliabilityPolicy[override.upper()]
        return matching_reliability(self.publishers()) or default


def _with_info(on_message: OnMessage, message: FrameMsg, info: Mapping[str, Any]) -> None:
    waited = time.time_ns() - info.get("received_timestamp", 0)
    on_message(message, Arrival(info.get("publication_sequence_number"), waited < PROMPT))


def _without_info(on_message: OnMessage, message: FrameMsg) -> None:
    on_message(message, UNKNOWN)


def check_override(name: str, value: object) -> None:
    """Checks the value of a parameter if it is one that overrides a subscription's reliability.

    Raises:
        ValueError: with the parameter's name and the value.
    """
    overrides = name.startswith("qos_overrides.") and name.endswith(".subscription.reliability")
    if overrides and value not in RELIABILITIES:
        raise ValueError(f"{name} must be {', '.join(RELIABILITIES)}, got '{value}'")


def matching_reliability(publishers: Sequence[TopicEndpointInfo]) -> ReliabilityPolicy | None:
    """The strictest reliability that receives every publisher; None without publishers."""
    if not publishers:
        return None
    offered = {publisher.qos_profile.reliability for publisher in publishers}
    if offered == {ReliabilityPolicy.RELIABLE}:
        return ReliabilityPolicy.RELIABLE
    return ReliabilityPolicy.BEST_EFFORT
