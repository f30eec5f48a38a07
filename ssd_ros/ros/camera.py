# SPDX-License-Identifier: Apache-2.0
"""One image topic: its newest-frame slot, its counts and its output topics."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image as ImageMsg
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, LabelInfo

from ssd_ros.detections import Detections
from ssd_ros.drawing import annotate
from ssd_ros.image import Image, ImageError
from ssd_ros.messages.detections import detection_array, label_info
from ssd_ros.messages.images import (
    fill_image,
    image_from_compressed_msg,
    image_from_msg,
)
from ssd_ros.ros.endpoints import Endpoints
from ssd_ros.ros.frame_loss import FrameLoss, FrameLossEstimator
from ssd_ros.ros.image_subscription import FrameMsg, ImageSubscription
from ssd_ros.ros.marker_publisher import MarkerPublisher

RECENT = 200  # images that medians and percentiles are taken over
LOG_EVERY = 1.0  # seconds between two warnings about invalid images
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass
class Counts:
    """What became of a camera's frames since the node was configured.

    Attributes:
        latencies: seconds from the stamps of the latest frames to their detections' publication.
        processing_latency: seconds from the arrival of the latest frames to the same.
    """

    received: int = 0
    processed: int = 0
    superseded: int = 0
    too_old: int = 0
    bad: int = 0
    last_bad: str = ""
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    processing_latency: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))


class ReceivedFrame(NamedTuple):
    """A message and the time.monotonic() at which it was received."""

    message: FrameMsg
    received_at: float


class DecodedFrame(NamedTuple):
    """A frame's image, with the header that its detections get."""

    header: Header
    image: Image
    received_at: float


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


class Camera:
    """Receives the images of one topic and publishes what was detected in them.

    Args:
        node: creates the subscriptions and the publishers.
        topic: resolved name of the image topic.
        outputs: namespace of the output topics.
        compressed: subscribe to CompressedImage on TOPIC/compressed instead.
        markers: also publish outlines in the optical frame, using the `camera_info` of the image
            topic's namespace.
        group: callback group of the subscriptions; None for the node's default group.
        on_frame: called from the executor's thread for every frame received.

    Raises:
        ValueError: see `ImageSubscription`.
    """

    def __init__(
        self,
        node: Node,
        topic: str,
        outputs: str,
        compressed: bool,
        markers: bool,
        group: CallbackGroup | None,
        on_frame: Callable[[], None],
    ) -> None:
        self._node = node
        self._on_frame = on_frame
        self._compressed = compressed
        self._lock = threading.Lock()  # of the slot, the counts and the loss estimate
        self._newest: ReceivedFrame | None = None
        self._counts = Counts()
        self._loss_estimator = FrameLossEstimator()
        self._last_image_at = time.monotonic()
        self._subscription = ImageSubscription(
            node, topic, compressed, group, self.receive, self._note_lost
        )
        self._detections = node.create_publisher(Detection2DArray, f"{outputs}/detections", 10)
        self._annotated = node.create_publisher(ImageMsg, f"{outputs}/detections_image", 1)
        self._label_info = node.create_publisher(LabelInfo, f"{outputs}/label_info", LATCHED)
        self._markers = MarkerPublisher(node, topic, outputs, group) if markers else None

    @property
    def topic(self) -> str:
        """Name of the subscribed topic."""
        return self._subscription.topic

    @property
    def detections_topic(self) -> str:
        return self._detections.topic_name

    @property
    def annotated_topic(self) -> str:
        return self._annotated.topic_name

    def subscribe(self) -> None:
        """Starts receiving images, unless they are received already."""
        if not self._subscription.active:
            self._last_image_at = time.monotonic()
            self._subscription.subscribe()

    def unsubscribe(self) -> None:
        """Stops receiving images and drops a frame that was not taken yet."""
        self._subscription.unsubscribe()
        with self._lock:
            self._newest = None
            self._loss_estimator.clear()

    def adapt(self) -> None:
        """Adapts the subscription to the topic's publishers."""
        self._subscription.adapt()

    def endpoints(self) -> Endpoints:
        """The subscription and the image topic's publishers."""
        return Endpoints.of(self._node, self.topic)

    def markers_problem(self, timeout: float) -> str:
        """See `MarkerPublisher.problem`; empty without markers."""
        return self._markers.problem(timeout) if self._markers else ""

    def close(self) -> None:
        """Removes the subscriptions and the publishers."""
        self.unsubscribe()
        if self._markers is not None:
            self._markers.close()
        for publisher in (self._detections, self._annotated, self._label_info):
            self._node.destroy_publisher(publisher)

    def receive(self, message: FrameMsg, sequence: int | None = None) -> None:
        """Puts a frame into the slot, where it replaces one that was not taken yet.

        Args:
            sequence: see `FrameLossEstimator.note_received`.
        """
        now = time.monotonic()
        with self._lock:
            self._counts.received += 1
            self._counts.superseded += self._newest is not None
            self._newest = ReceivedFrame(message, now)
            self._loss_estimator.note_received(now, sequence)
            self._last_image_at = now
        self._on_frame()

    def take(self, max_age: float = 0.0, min_size: int | None = None) -> DecodedFrame | None:
        """Takes the newest frame out of the slot and decodes its image.

        Args:
            max_age: seconds since the frame's stamp; an older one is dropped and counted. 0
                disables the limit.
            min_size: the network's input size: a JPEG much larger than that is decoded smaller,
                see `image_from_compressed_msg`.

        Returns:
            None without a frame, and for one that is too old or cannot be decoded.
        """
        with self._lock:
            frame, self._newest = self._newest, None
        if frame is None:
            return None
        if max_age and self._age(frame.message.header) > max_age:
            with self._lock:
                self._counts.too_old += 1
            return None
        try:
            if self._compressed:
                image = image_from_compressed_msg(frame.message, min_size)
            else:
                image = image_from_msg(frame.message)
        except ImageError as error:
            with self._lock:
                self._counts.bad += 1
                self._counts.last_bad = str(error)
            self._node.get_logger().warning(
                f"dropped invalid image on '{self.topic}': {error}",
                throttle_duration_sec=LOG_EVERY,
            )
            return None
        return DecodedFrame(frame.message.header, image, frame.received_at)

    def publish(self, frame: DecodedFrame, detections: Detections, classes: Sequence[str]) -> None:
        """Publishes a frame's detections, unless the camera has been unsubscribed meanwhile.

        Args:
            detections: in pixels of the frame's image.
            classes: names that the detections' labels index.
        """
        if not self._subscription.active:
            return
        self._detections.publish(detection_array(frame.header, detections, classes))
        with self._lock:
            self._counts.processed += 1
            self._counts.latencies.append(self._age(frame.header))
            self._counts.processing_latency.append(time.monotonic() - frame.received_at)
        if self._annotated.get_subscription_count():
            canvas = annotate(frame.image, detections, classes)
            self._annotated.publish(fill_image(ImageMsg(header=frame.header), canvas, "bgr8"))
        if self._markers is not None:
            size = frame.image.width, frame.image.height
            self._markers.publish(frame.header, detections, classes, size)

    def publish_label_info(self, classes: Sequence[str], score_threshold: float) -> None:
        """Publishes the class table and the threshold, also for later subscribers."""
        header = Header(stamp=self._node.get_clock().now().to_msg())
        self._label_info.publish(label_info(header, classes, score_threshold))

    def snapshot(self) -> CameraSnapshot:
        """The camera's counts and state; a copy that later frames do not change."""
        publishers = self._subscription.publishers()
        identities = frozenset(bytes(publisher.endpoint_gid) for publisher in publishers)
        with self._lock:
            counts = replace(
                self._counts,
                latencies=self._counts.latencies.copy(),
                processing_latency=self._counts.processing_latency.copy(),
            )
            loss = self._loss_estimator.estimate(identities)
            silence = time.monotonic() - self._last_image_at
        return CameraSnapshot(self.topic, self._subscription.reliability, silence, counts, loss)

    def _note_lost(self, count: int) -> None:
        with self._lock:
            self._loss_estimator.note_reported(time.monotonic(), count)

    def _age(self, header: Header) -> float:
        """Seconds since a stamp, by the node's clock."""
        now = self._node.get_clock().now().nanoseconds
        return (now - header.stamp.sec * 10**9 - header.stamp.nanosec) * 1e-9


def stamp_ns(message: FrameMsg | Detection2DArray) -> int:
    """A message's stamp in nanoseconds; rclpy's Time refuses values that a frame can carry."""
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
