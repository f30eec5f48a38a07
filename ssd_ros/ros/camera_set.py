# SPDX-License-Identifier: Apache-2.0
"""All cameras of the detector node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node

from ssd_ros.ros.camera import Camera
from ssd_ros.ros.settings import Settings


class CameraSet:
    """A camera for each image topic of the settings.

    Args:
        node, group, on_frame: see `Camera`.
        settings: give the topics, the transport and whether markers are published.

    Raises:
        ValueError: an image topic or its QoS override is invalid; no camera is left then.
    """

    def __init__(
        self,
        node: Node,
        settings: Settings,
        group: CallbackGroup | None,
        on_frame: Callable[[], None],
    ) -> None:
        topics = [node.resolve_topic_name(topic) for topic in settings.image_topics]
        compressed = settings.image_transport == "compressed"
        self._cameras: list[Camera] = []
        try:
            for topic, outputs in zip(topics, output_namespaces(topics), strict=True):
                self._cameras.append(
                    Camera(node, topic, outputs, compressed, settings.markers, group, on_frame)
                )
        except Exception:
            self.close()
            raise

    def __iter__(self) -> Iterator[Camera]:
        return iter(self._cameras)

    def set_subscribed(self, subscribed: bool) -> None:
        """Subscribes to all image topics, or unsubscribes from them."""
        for camera in self._cameras:
            if subscribed:
                camera.subscribe()
            else:
                camera.unsubscribe()

    def adapt(self) -> None:
        """Adapts all subscriptions to their publishers."""
        for camera in self._cameras:
            camera.adapt()

    def publish_label_info(self, classes: Sequence[str], score_threshold: float) -> None:
        """Publishes the class table and the threshold for every camera."""
        for camera in self._cameras:
            camera.publish_label_info(classes, score_threshold)

    def close(self) -> None:
        """Removes all subscriptions and publishers."""
        for camera in self._cameras:
            camera.close()
        self._cameras.clear()


def output_namespaces(topics: Sequence[str]) -> list[str]:
    """The namespaces of the output topics: those of the image topics, as in image_pipeline.

    Image topics that share a namespace would share their outputs; the outputs of those go below
    the image topics' own names.
    """
    spaces = [topic.rsplit("/", 1)[0] for topic in topics]
    while len(set(spaces)) < len(spaces):
        spaces = [
            topic if spaces.count(space) > 1 else space
            for topic, space in zip(topics, spaces, strict=True)
        ]
    return spaces
