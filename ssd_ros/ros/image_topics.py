# SPDX-License-Identifier: Apache-2.0
"""The image topics of a ROS graph, without those that detectors publish."""

from __future__ import annotations

from rclpy.node import Node

from ssd_ros.ros.endpoints import BARE, UNKNOWN

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
LABEL_INFO = "vision_msgs/msg/LabelInfo"  # published by every detector, and by no camera driver


def image_topics(node: Node) -> dict[str, str]:
    """Topics of raw and compressed images, with their types, that a detector could work on.

    Annotated images of detectors are left out: they are detectors' outputs.
    """
    topics = node.get_topic_names_and_types()
    info_topics = [name for name, kinds in topics if LABEL_INFO in kinds]
    detectors = {publisher for topic in info_topics for publisher in publishers_of(node, topic)}
    found = {}
    for name, kinds in topics:
        kind = next((kind for kind in (RAW, COMPRESSED) if kind in kinds), None)
        publishers = publishers_of(node, name) if kind else set()
        if kind and not (publishers and publishers <= detectors):
            found[name] = kind
    return found


def publishers_of(node: Node, topic: str) -> set[tuple[str, str]]:
    """Name and namespace of the nodes that publish a topic, where they are known."""
    infos = node.get_publishers_info_by_topic(topic)
    names = {(info.node_name, info.node_namespace) for info in infos}
    return {name for name in names if name[0] not in (UNKNOWN, BARE)}
