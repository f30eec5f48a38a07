# SPDX-License-Identifier: Apache-2.0
"""One camera's outputs to look at: the annotated image, raw and as JPEG, and annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from rclpy.node import Node
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMsg
from std_msgs.msg import Header

from ssd_ros.detections import Detections
from ssd_ros.drawing import AnnotatedFrame
from ssd_ros.image import Image
from ssd_ros.messages.annotations import foxglove_msgs, image_annotations
from ssd_ros.messages.images import fill_image, fill_jpeg
from ssd_ros.ros.topics import ANNOTATED, ANNOTATED_JPEG


class View(Protocol):
    """Another place where frames are looked at, such as a stream of the web page."""

    viewers: int

    def offer(self, frame: AnnotatedFrame) -> None:
        """Takes a frame to be drawn there, in another thread, and returns at once."""


class AnnotatedOutputs:
    """Publishes frames with their detections drawn; each output only while somebody subscribes.

    A frame is drawn and encoded once for all of them.

    Args:
        node: creates the publishers.
        outputs: see `CameraTopics`.
        view: also gets the frames while it has viewers.
    """

    def __init__(self, node: Node, outputs: Mapping[str, str], view: View | None = None) -> None:
        self._node = node
        self._view = view
        self._raw = node.create_publisher(ImageMsg, outputs[ANNOTATED], 1)
        self._jpeg = node.create_publisher(CompressedImage, outputs[ANNOTATED_JPEG], 1)
        self._publishers = [self._raw, self._jpeg]
        self._annotations = None
        if foxglove_msgs is not None:
            kind = foxglove_msgs.ImageAnnotations
            self._annotations = node.create_publisher(kind, outputs["annotations"], 1)
            self._publishers.append(self._annotations)

    def publish(
        self, header: Header, image: Image, detections: Detections, classes: Sequence[str]
    ) -> None:
        """Publishes a frame in all outputs that have subscribers.

        Args:
            header: the frame's own.
            image, detections, classes: see `drawing.annotate`.
        """
        frame = AnnotatedFrame(image, detections, classes)
        if self._raw.get_subscription_count():
            self._raw.publish(fill_image(ImageMsg(header=header), frame.canvas(), "bgr8"))
        if self._annotations is not None and self._annotations.get_subscription_count():
            self._annotations.publish(image_annotations(header, detections, classes, image))
        if self._jpeg.get_subscription_count():
            self._jpeg.publish(fill_jpeg(CompressedImage(header=header), frame.jpeg()))
        if self._view is not None and self._view.viewers:
            self._view.offer(frame)  # last: what it needs may be there by now

    def close(self) -> None:
        """Removes the publishers."""
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)
