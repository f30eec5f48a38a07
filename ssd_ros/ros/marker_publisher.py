# SPDX-License-Identifier: Apache-2.0
"""One camera's outlines for RViz, made with its calibration."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from ssd_ros.detections import Detections
from ssd_ros.messages.markers import is_calibrated, outlines
from ssd_ros.ros.endpoints import Endpoints
from ssd_ros.ros.image_transport import camera_info_topic
from ssd_ros.ros.topics import CameraTopics


class MarkerPublisher:
    """Publishes detections_markers with the newest calibration of the image topic's namespace.

    Args:
        node: creates subscription and publisher.
        topics: of the camera.
        group: callback group of the subscription; None for the node's default group.
    """

    def __init__(self, node: Node, topics: CameraTopics, group: CallbackGroup | None) -> None:
        self._node = node
        self._info_topic = camera_info_topic(topics.image)
        self._info: CameraInfo | None = None
        self._impossible_since: float | None = None
        output = topics.outputs["detections_markers"]
        self._publisher = node.create_publisher(MarkerArray, output, 1)
        self._subscription = node.create_subscription(
            CameraInfo,
            self._info_topic,
            self._receive,
            qos_profile_sensor_data,
            callback_group=group,
        )

    def publish(
        self, header: Header, detections: Detections, classes: Sequence[str], size: tuple[int, int]
    ) -> None:
        """Publishes a frame's outlines if there are a calibration and subscribers.

        Args:
            header, detections, classes, size: see `outlines`.
        """
        info = self._info
        if info is None or not is_calibrated(info):
            self._impossible_since = self._impossible_since or time.monotonic()
            return
        self._impossible_since = None
        if self._publisher.get_subscription_count():
            self._publisher.publish(outlines(header, detections, classes, size, info))

    def problem(self, timeout: float) -> str:
        """Why no markers were published for `timeout` seconds of detections; empty if they were."""
        since, info = self._impossible_since, self._info
        if since is None or time.monotonic() - since < timeout:
            return ""
        start = f"no detections_markers, for '{self._info_topic}'"
        if info is not None:
            return f"{start} is not calibrated: its K, P, width or height is 0"
        endpoints = Endpoints.of(self._node, self._info_topic)
        if not endpoints.publishers:
            return f"{start} has no publishers"
        return f"{start} was never received; {endpoints.explain()}"

    def close(self) -> None:
        """Removes subscription and publisher."""
        self._node.destroy_subscription(self._subscription)
        self._node.destroy_publisher(self._publisher)

    def _receive(self, info: CameraInfo) -> None:
        self._info = info
