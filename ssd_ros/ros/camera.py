# SPDX-License-Identifier: Apache-2.0
"""One image topic: its subscription, its newest-frame slot, its counts and its outputs."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_profile_sensor_data,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import CameraInfo, CompressedImage
from sensor_msgs.msg import Image as ImageMsg
from vision_msgs.msg import Detection2DArray, LabelInfo
from visualization_msgs.msg import MarkerArray

from ssd_ros.image import Image
from ssd_ros.messages.images import image_from_compressed_msg, image_from_msg
from ssd_ros.model.config import INPUT_SIZE
from ssd_ros.ros.frame_loss import FrameLoss, FrameLossEstimator

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

Frame: TypeAlias = "ImageMsg | CompressedImage"
RECENT = 200  # images that medians and percentiles are taken over
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass
class Counts:
    """What became of a camera's frames since the node was configured.

    Attributes:
        latencies: seconds from the stamps of the latest frames to their detections' publication.
        handling: seconds from the arrival of the latest frames to the same.
    """

    received: int = 0
    processed: int = 0
    superseded: int = 0
    too_old: int = 0
    bad: int = 0
    last_bad: str = ""
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    handling: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))


class Arrival(NamedTuple):
    """A frame and when it came, by time.monotonic()."""

    frame: Frame
    when: float


class Camera:
    """An image topic and what is published beside it.

    Args:
        node: creates the subscription and the publishers.
        topic: resolved name of the image topic.
        outputs: namespace of the outputs.
        compressed: subscribe to CompressedImage on TOPIC/compressed instead.
        markers: publish outlines in the optical frame, too, by what `camera_info` beside the
            image says.
        group: of the subscriptions; None for the node's own.
        arrived: called from the executor's thread whenever the slot was filled.
    """

    def __init__(
        self,
        node: Node,
        topic: str,
        outputs: str,
        compressed: bool,
        markers: bool,
        group: CallbackGroup | None,
        arrived: Callable[[], None],
    ) -> None:
        namespace = topic.rpartition("/")[0]
        topic = f"{topic}/compressed" if compressed else topic
        # The standard parameter, with a default that the standard does not know: adapt.
        override = f"qos_overrides.{topic}.subscription.reliability"
        if not node.has_parameter(override):
            node.declare_parameter(override, "auto")
        self._reliability = str(node.get_parameter(override).value)
        if self._reliability not in ("auto", "reliable", "best_effort"):
            raise ValueError(
                f"{override} must be auto, reliable or best_effort, got '{self._reliability}'"
            )

        self._node = node
        self._compressed = compressed
        self._group = group
        self._arrived = arrived
        self._subscription: Subscription | None = None
        self._lock = threading.Lock()
        self._newest: Arrival | None = None
        self._stamps = FrameLossEstimator()
        self.topic = topic
        self.counts = Counts()
        self._quiet_since = time.monotonic()
        self.detections = node.create_publisher(Detection2DArray, f"{outputs}/detections", 10)
        self.annotated = node.create_publisher(ImageMsg, f"{outputs}/detections_image", 1)
        self.label_info = node.create_publisher(LabelInfo, f"{outputs}/label_info", LATCHED)
        self.info: CameraInfo | None = None
        self.markers: Publisher | None = None
        if markers:
            self.markers = node.create_publisher(MarkerArray, f"{outputs}/detections_markers", 1)
            self._info_subscription = node.create_subscription(
                CameraInfo,
                f"{namespace}/camera_info",
                self._receive_info,
                qos_profile_sensor_data,
                callback_group=group,
            )

    def subscribe(self) -> None:
        """Starts to receive."""
        self._quiet_since = time.monotonic()
        self._subscribe(self._wanted_reliability())

    @property
    def subscribed(self) -> bool:
        """Whether images are received."""
        return self._subscription is not None

    def unsubscribe(self) -> None:
        """Stops to receive and forgets a frame not yet taken."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
        self.take()

    def close(self) -> None:
        """Takes the topics back."""
        self.unsubscribe()
        for publisher in (self.detections, self.annotated, self.label_info):
            self._node.destroy_publisher(publisher)
        if self.markers is not None:
            self._node.destroy_publisher(self.markers)
            self._node.destroy_subscription(self._info_subscription)

    def adapt(self) -> None:
        """Subscribes anew where the publishers now ask for another reliability.

        Until there is a publisher the subscription is reliable: one that offers it is then heard
        from its first image on. One that does not is followed here.
        """
        if self._subscription is None:
            return
        wanted = self._wanted_reliability(self.reliability)
        if wanted != self.reliability:
            self._node.get_logger().info(
                f"'{self.topic}': publishers changed, subscribing {wanted.name.lower()}"
            )
            self._node.destroy_subscription(self._subscription)
            self._subscribe(wanted)

    @property
    def reliability(self) -> ReliabilityPolicy:
        """Of the present subscription."""
        assert self._subscription is not None
        return self._subscription.qos_profile.reliability

    def publishers(self) -> list[TopicEndpointInfo]:
        """Who publishes the images, with the QoS they offer."""
        return self._node.get_publishers_info_by_topic(self.topic)

    @property
    def quiet_for(self) -> float:
        """Seconds since the last image came, or since it could have come."""
        return time.monotonic() - self._quiet_since

    def receive(self, frame: Frame) -> None:
        """Puts a frame into the slot; the subscription calls it."""
        now = time.monotonic()
        with self._lock:
            self.counts.received += 1
            self.counts.superseded += self._newest is not None
            self._newest = Arrival(frame, now)
            self._stamps.note(stamp_ns(frame))
        self._quiet_since = now
        self._arrived()

    @property
    def waiting(self) -> bool:
        """Whether a frame waits to be taken."""
        return self._newest is not None

    def take(self) -> Arrival | None:
        """The newest frame, once."""
        with self._lock:
            arrival, self._newest = self._newest, None
        return arrival

    def losses(self) -> FrameLoss | None:
        """How many images are lost on the way, as far as the stamps of the others tell."""
        with self._lock:
            return self._stamps.losses()

    def view(self, frame: Frame) -> Image:
        """A frame's image.

        Raises:
            ImageError: the frame contradicts itself or cannot be decoded.
        """
        if self._compressed:
            return image_from_compressed_msg(frame, min_size=INPUT_SIZE)
        return image_from_msg(frame)

    def _receive_info(self, info: CameraInfo) -> None:
        self.info = info

    def _subscribe(self, reliability: ReliabilityPolicy) -> None:
        self._subscription = self._node.create_subscription(
            CompressedImage if self._compressed else ImageMsg,
            self.topic,
            self.receive,
            QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=reliability),
            qos_overriding_options=QoSOverridingOptions(
                (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH)
            ),
            callback_group=self._group,
            # A publisher that offers less is no trouble to warn of: `adapt` follows it.
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        )

    def _wanted_reliability(
        self, otherwise: ReliabilityPolicy = ReliabilityPolicy.RELIABLE
    ) -> ReliabilityPolicy:
        if self._reliability != "auto":
            return ReliabilityPolicy[self._reliability.upper()]
        return matching_reliability(self.publishers()) or otherwise


def stamp_ns(message: Frame | Detection2DArray) -> int:
    """A message's stamp; not through rclpy's Time, which refuses what a frame can carry."""
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def matching_reliability(publishers: Sequence[TopicEndpointInfo]) -> ReliabilityPolicy | None:
    """The reliability that hears every publisher and loses least; None without publishers."""
    if not publishers:
        return None
    offered = {publisher.qos_profile.reliability for publisher in publishers}
    if offered == {ReliabilityPolicy.RELIABLE}:
        return ReliabilityPolicy.RELIABLE
    return ReliabilityPolicy.BEST_EFFORT


def output_namespaces(topics: Sequence[str]) -> list[str]:
    """Where each image topic's outputs go: beside the image, as image_pipeline does.

    Images that share a namespace would share their outputs; those get them below their own
    names.
    """
    spaces = [topic.rsplit("/", 1)[0] for topic in topics]
    while len(set(spaces)) < len(spaces):
        spaces = [
            topic if spaces.count(space) > 1 else space
            for topic, space in zip(topics, spaces, strict=True)
        ]
    return spaces
