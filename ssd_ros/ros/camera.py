# SPDX-License-Identifier: Apache-2.0
"""One image topic: its newest-frame slot, its counts and its output topics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, LabelInfo

from ssd_ros.bit_depth import PERCENTILES
from ssd_ros.detections import Detections
from ssd_ros.image import printable
from ssd_ros.messages.detections import detection_array, label_info
from ssd_ros.messages.images import (
    image_from_compressed_msg,
    image_from_msg,
)
from ssd_ros.ros.annotated_outputs import AnnotatedOutputs, View
from ssd_ros.ros.endpoints import Endpoints
from ssd_ros.ros.failures import RecurringProblems, kind_of
from ssd_ros.ros.frame_loss import UNKNOWN, Arrival, FrameLossEstimator
from ssd_ros.ros.frames import CameraSnapshot, DecodedFrame, FrameSlot, ReceivedFrame, age
from ssd_ros.ros.image_subscription import FrameMsg, ImageSubscription
from ssd_ros.ros.marker_publisher import MarkerPublisher
from ssd_ros.ros.topics import CameraTopics

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Camera:
    """Receives the images of one topic and publishes what was detected in them.

    Args:
        node: creates the subscriptions and the publishers.
        topics: of the images and of the outputs.
        compressed: subscribe to CompressedImage on TOPIC/compressed instead.
        markers: also publish outlines in the optical frame, using the `camera_info` of the image
            topic's namespace.
        group: callback group of the subscriptions; None for the node's default group.
        on_frame: called from the executor's thread for every frame received.
        mono16_range: of 16-bit grey images, see `bit_depth.to_8_bits`.
        view: see `AnnotatedOutputs`.

    Attributes:
        compressed: whether `take` decodes, which can take seconds.

    Raises:
        ValueError: see `ImageSubscription`.
    """

    def __init__(
        self,
        node: Node,
        topics: CameraTopics,
        compressed: bool,
        markers: bool,
        group: CallbackGroup | None,
        on_frame: Callable[[], None],
        mono16_range: str = PERCENTILES,
        view: View | None = None,
    ) -> None:
        self._node = node
        self._mono16_range = mono16_range
        self._invalid = RecurringProblems()
        self._on_frame = on_frame
        self.compressed = compressed
        self._slot = FrameSlot(self._note_dropped)
        self._lock = threading.Lock()  # of the loss estimate
        self._loss_estimator = FrameLossEstimator()
        self._last_image_at = time.monotonic()
        lost, outputs = self._note_lost, topics.outputs
        self._subscription = ImageSubscription(node, topics.image, compressed, group, lost)
        self._detections = node.create_publisher(Detection2DArray, outputs["detections"], 10)
        self._annotated = AnnotatedOutputs(node, outputs, view)
        self._label_info = node.create_publisher(LabelInfo, outputs["label_info"], LATCHED)
        self._markers = MarkerPublisher(node, topics, group) if markers else None

    @property
    def topic(self) -> str:
        """Name of the subscribed topic."""
        return self._subscription.topic

    @property
    def detections_topic(self) -> str:
        return self._detections.topic_name

    def subscribe(self) -> None:
        """Starts receiving images, unless they are received already."""
        if not self._subscription.active:
            self._last_image_at = time.monotonic()
            self._subscription.subscribe(partial(self.receive, session=self._slot.session))

    def unsubscribe(self) -> None:
        """Stops receiving images and drops a frame that was not taken yet."""
        self._subscription.unsubscribe()
        self._slot.clear()
        with self._lock:
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
        self._annotated.close()
        for publisher in (self._detections, self._label_info):
            self._node.destroy_publisher(publisher)

    @property
    def has_frame(self) -> bool:
        """Whether a frame is in the slot."""
        return self._slot.full

    def receive(self, message: FrameMsg, arrival: Arrival = UNKNOWN, session: int = 0) -> None:
        """Puts a frame into the slot, where it replaces one that was not taken yet.

        Args:
            session: that of the subscription; a frame of an earlier one, whose callback comes
                late, is discarded.
        """
        now = time.monotonic()
        if not self._slot.put(ReceivedFrame(message, now, session)):
            return
        with self._lock:
            self._loss_estimator.note_received(now, arrival)
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
        frame = self._slot.take()
        if frame is None:
            return None
        if max_age and age(frame.message.header, self._node.get_clock()) > max_age:
            self._slot.add("too_old")
            return None
        try:
            if self.compressed:
                image = image_from_compressed_msg(frame.message, min_size, self._mono16_range)
            else:
                image = image_from_msg(frame.message, self._mono16_range)
        except Exception as error:  # an ImageError, or what a library raises
            self._note_bad(frame.message, printable(str(error)))
            return None
        self._invalid.note_success()
        return DecodedFrame(frame.message.header, image, frame.received_at, frame.session)

    def publish(self, frame: DecodedFrame, detections: Detections, classes: Sequence[str]) -> None:
        """Publishes a frame's detections, unless the camera has been unsubscribed since then.

        Args:
            detections: in pixels of the frame's image.
            classes: names that the detections' labels index.
        """
        if frame.session != self._slot.session:
            self.give_up("discarded")
            return
        try:
            self._detections.publish(detection_array(frame.header, detections, classes))
        except Exception:
            self.give_up("failed")
            raise
        self._slot.note_processed(frame, self._node.get_clock())
        self._annotated.publish(frame.header, frame.image, detections, classes)
        if self._markers is not None:
            size = frame.image.width, frame.image.height
            self._markers.publish(frame.header, detections, classes, size)

    def give_up(self, outcome: Literal["failed", "discarded"]) -> None:
        """Counts a frame that was taken and will not be answered."""
        self._slot.add(outcome)

    def publish_label_info(self, classes: Sequence[str], score_threshold: float) -> None:
        """Publishes the class table and the threshold, also for later subscribers."""
        header = Header(stamp=self._node.get_clock().now().to_msg())
        self._label_info.publish(label_info(header, classes, score_threshold))

    def snapshot(self) -> CameraSnapshot:
        """The camera's counts and state; a copy that later frames do not change."""
        counts = self._slot.counts()
        publishers = self._subscription.publishers()
        identities = frozenset(bytes(publisher.endpoint_gid) for publisher in publishers)
        with self._lock:
            loss = self._loss_estimator.estimate(identities)
            silence = time.monotonic() - self._last_image_at
        return CameraSnapshot(self.topic, self._subscription.reliability, silence, counts, loss)

    def _note_bad(self, message: FrameMsg, reason: str) -> None:
        with self._slot.counting() as counts:
            counts.bad += 1
            counts.last_bad, counts.last_is_bad = reason, True
        encoding = message.format if self.compressed else message.encoding
        if self._invalid.begins(f"{encoding[:40]}: {kind_of(reason)}"):
            self._node.get_logger().warning(f"dropped invalid image on '{self.topic}': {reason}")

    def _note_dropped(self, reason: str) -> None:
        self._node.get_logger().debug(f"dropped a frame on '{self.topic}': {reason}")

    def _note_lost(self, count: int) -> None:
        with self._lock:
            self._loss_estimator.note_reported(time.monotonic(), count)
