# SPDX-License-Identifier: Apache-2.0
"""The image topics of a ROS graph, without those that detectors publish."""

from __future__ import annotations

from rclpy.node import Node

from ssd_ros.ros.endpoints import BARE, UNKNOWN, node_of
from ssd_ros.ros.frozen_graph import FrozenGraph

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
LABEL_INFO = "vision_msgs/msg/LabelInfo"  # published by every detector, and by no camera driver


def image_topics(node: Node | FrozenGraph) -> dict[str, str]:
    """Topics on which images are published, raw ones or compressed ones, with their types.

    Annotated images of detectors are left out.
    """
    topics = node.get_topic_names_and_types()
    infos = [name for name, kinds in topics if LABEL_INFO in kinds]
    detectors = {
        node_of(info)
        for name in infos
        for info in node.get_publishers_info_by_topic(name)
        if info.node_name not in (UNKNOWN, BARE)
    }
    found = {}
    for name, kinds in topics:
        if not {RAW, COMPRESSED} & set(kinds):
            continue
        cameras = [
            info
            for info in node.get_publishers_info_by_topic(name)
            if node_of(info) not in detectors
        ]
        published = {info.topic_type for info in cameras}
        if kind := next((kind for kind in (RAW, COMPRESSED) if kind in published), None):
            found[name] = kind
    return found
