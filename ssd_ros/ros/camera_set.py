# SPDX-License-Identifier: Apache-2.0
"""All cameras of the detector node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node

from ssd_ros.ros.annotated_outputs import View
from ssd_ros.ros.camera import Camera
from ssd_ros.ros.settings import Settings
from ssd_ros.ros.topics import TopicResolver, camera_topics


class CameraSet:
    """A camera for each image topic of the settings.

    Args:
        node, group, on_frame: see `Camera`.
        view: gives each image topic's `View`, or None.
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
        view: Callable[[str], View | None],
    ) -> None:
        compressed = settings.image_transport == "compressed"
        names, below = settings.image_topics, settings.output_namespace
        topics = camera_topics(names, compressed, TopicResolver(node), below)
        self._cameras: list[Camera] = []
        try:
            for topic in topics:
                markers, more = settings.markers, (settings.mono16_range, view(topic.image))
                camera = Camera(node, topic, compressed, markers, group, on_frame, *more)
                self._cameras.append(camera)
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
        cameras, self._cameras = self._cameras, []
        for camera in cameras:
            camera.close()
