# SPDX-License-Identifier: Apache-2.0
"""A ROS graph as it was at one moment."""

from __future__ import annotations

from functools import cache

from rclpy.node import Node


class FrozenGraph:
    """Answers questions about the graph as a node does, each always as at the first time.

    A finding about a camera needs several answers; one that ends in between would be told with
    publishers and without. The answers belong together as far as they are asked at once.

    Args:
        node: is asked.
    """

    def __init__(self, node: Node) -> None:
        self.get_name, self.get_namespace = node.get_name, node.get_namespace
        self.get_node_names_and_namespaces = cache(node.get_node_names_and_namespaces)
        self.get_topic_names_and_types = cache(node.get_topic_names_and_types)
        self.get_service_names_and_types = cache(node.get_service_names_and_types)
        self.get_publishers_info_by_topic = cache(node.get_publishers_info_by_topic)
        self.get_subscriptions_info_by_topic = cache(node.get_subscriptions_info_by_topic)
