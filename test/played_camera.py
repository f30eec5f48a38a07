# SPDX-License-Identifier: Apache-2.0
"""A camera that sends what a test says, and functions that read the detections it receives."""

import time

import cv2
import numpy as np
from graph import Graph
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMsg
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray
from waiting import wait_for

from ssd_ros.messages.images import as_array, fill_image

Stamp = tuple[int, int, str]


class PlayedCamera:
    """Sends images on a topic and receives the detections in them."""

    def __init__(
        self,
        graph: Graph,
        topic: str = "image_raw",
        compressed: bool = False,
        reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE,
        frame_id: str = "camera",
    ) -> None:
        self._graph = graph
        self._frame_id = frame_id
        self._newest = 0
        self.sent: list[Stamp] = []
        self.topic = graph.name(f"{topic}/compressed" if compressed else topic)
        outputs = graph.name(topic).rpartition("/")[0]
        self.detections: list[Detection2DArray] = graph.hear(
            Detection2DArray, f"{outputs}/detections"
        )
        self.kind = CompressedImage if compressed else ImageMsg
        self.publisher = graph.node.create_publisher(
            self.kind, self.topic, QoSProfile(depth=10, reliability=reliability)
        )

    def header(self) -> Header:
        """Header of a frame taken now; stamps rise strictly."""
        now = self._graph.node.get_clock().now().nanoseconds
        self._newest = max(now, self._newest + 1)
        seconds, nanoseconds = divmod(self._newest, 10**9)
        header = Header(frame_id=self._frame_id)
        header.stamp.sec, header.stamp.nanosec = seconds, nanoseconds
        return header

    def send(self, image: np.ndarray, header: Header | None = None) -> Stamp:
        """Publishes an image; without a header its stamp is now."""
        message = self.kind(header=header or self.header())
        if self.kind is ImageMsg:
            fill_image(message, image, "bgr8")
        else:
            message.format = "bgr8; jpeg compressed bgr8"
            message.data = as_array(cv2.imencode(".jpg", image)[1])
        self.sent.append(stamp_of(message.header))
        self.publisher.publish(message)
        return self.sent[-1]

    @property
    def subscribed(self) -> list[ReliabilityPolicy]:
        """Reliabilities of the subscriptions to the camera's topic."""
        infos = self._graph.node.get_subscriptions_info_by_topic(self.topic)
        return [info.qos_profile.reliability for info in infos]

    def wait_for_subscribers(self, count: int) -> None:
        wait_for(
            lambda: self.publisher.get_subscription_count() == count,
            f"{count} subscriptions to {self.topic}",
        )

    def detect(self, image: np.ndarray, header: Header | None = None) -> Detection2DArray:
        """The detections in an image, which is sent again each second until they are received."""
        sent: set[Stamp] = set()
        resend = 0.0

        def answer() -> Detection2DArray | None:
            nonlocal resend
            if time.monotonic() > resend:
                sent.add(self.send(image, header))
                resend = time.monotonic() + 1.0
            return next((d for d in self.detections if stamp_of(d.header) in sent), None)

        return wait_for(answer, f"detections in an image on {self.topic}")

    def stream(self, image: np.ndarray, rate: float = 30.0) -> None:
        """Sends an image periodically until the test ends."""
        self._graph.node.create_timer(1 / rate, lambda: self.send(image))

    def answered(self, stamp: Stamp) -> bool:
        return any(stamp_of(message.header) == stamp for message in self.detections)

    def wait_for_answer(self, stamp: Stamp) -> None:
        wait_for(lambda: self.answered(stamp), f"detections in an image on {self.topic}")


def stamp_of(header: Header) -> Stamp:
    """Identifies a frame."""
    return header.stamp.sec, header.stamp.nanosec, header.frame_id


def names_in(message: Detection2DArray) -> list[str]:
    """Class names of the detections, best first."""
    return [found.results[0].hypothesis.class_id for found in message.detections]


def scores_in(message: Detection2DArray) -> list[float]:
    return [found.results[0].hypothesis.score for found in message.detections]


def boxes_in(message: Detection2DArray) -> np.ndarray:
    """Boxes (N, 4) as x1 y1 x2 y2."""
    boxes = [
        (box.center.position.x, box.center.position.y, box.size_x, box.size_y)
        for box in (found.bbox for found in message.detections)
    ]
    x, y, width, height = np.array(boxes).reshape(-1, 4).T
    return np.stack((x - width / 2, y - height / 2, x + width / 2, y + height / 2), axis=1)
