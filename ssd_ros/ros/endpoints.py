# SPDX-License-Identifier: Apache-2.0
"""Why a subscription receives nothing from a publisher: all that keeps two endpoints apart."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

from ssd_ros.image import printable
from ssd_ros.ros import dds_profile
from ssd_ros.ros.frozen_graph import FrozenGraph
from ssd_ros.ros.graph_snapshot import Connection
from ssd_ros.ros.image_transport import COMPRESSED_SUFFIX, compressed_topic

UNKNOWN = "_NODE_NAME_UNKNOWN_"  # rmw's name until a publisher's node is known
BARE = "_CREATED_BY_BARE_DDS_APP_"  # rmw's name of a publisher without a node
EPROSIMA = b"\x01\x0f"  # a Fast DDS identifier starts with these, then host and process
PROCESSES = Path("/proc")


@dataclass(frozen=True)
class Endpoints:
    """One subscription of a node and the publishers of its topic, as the ROS graph knows them.

    Attributes:
        topic: resolved name.
        own: the subscription; None until the graph knows it.
    """

    topic: str
    own: TopicEndpointInfo | None
    publishers: Sequence[TopicEndpointInfo]

    @classmethod
    def of(cls, node: Node | FrozenGraph, topic: str) -> Endpoints:
        """The endpoints of a topic that the node subscribes to."""
        name = node.get_name(), node.get_namespace()
        subscriptions = node.get_subscriptions_info_by_topic(topic)
        own = (info for info in subscriptions if (info.node_name, info.node_namespace) == name)
        return cls(topic, next(own, None), node.get_publishers_info_by_topic(topic))

    def explain(self) -> str:
        """Each publisher with what keeps its messages away; empty without publishers."""
        return "; ".join(
            f"published by {connection.publisher}: {connection.obstacle or _nothing_known()}"
            for connection in self.connections()
        )

    def connections(self) -> list[Connection]:
        """What keeps each publisher's messages away, as far as the graph tells it."""
        return [
            Connection(_name(publisher), *self._obstacle(publisher))
            for publisher in self.publishers
        ]

    def _obstacle(self, publisher: TopicEndpointInfo) -> tuple[str, str]:
        """What keeps a publisher's messages away, and what to do about it; empty for nothing."""
        if self.own is None:
            return "not connected yet", "wait, then look again"
        if publisher.topic_type != self.own.topic_type:
            theirs = printable(publisher.topic_type)
            text = f"its type is {theirs}, expected {self.own.topic_type}"
            return text, _fix_of_type(self.topic, theirs)
        compatible, reason = qos_check_compatible(publisher.qos_profile, self.own.qos_profile)
        if compatible == QoSCompatibility.ERROR:
            text = (
                f"QoS does not match, it offers {_reliability(publisher)}, subscribed "
                f"{_reliability(self.own)} ({reason.strip('; ')})"
            )
            return text, (
                f"remove the parameters qos_overrides.{self.topic}.subscription.…: without them "
                "the detector follows its publishers"
            )
        hashes = [getattr(info, "topic_type_hash", None) for info in (publisher, self.own)]
        if hashes[0] != hashes[1]:  # on Humble both are None
            text = f"its definition of {self.own.topic_type} is another one (type hash)"
            return text, "build or install both nodes with the same version of the message package"
        separated = shared_memory_obstacle(publisher, self.own)
        return (
            separated,
            "run both as one user, and containers with --ipc=host" if separated else "",
        )


def node_of(info: TopicEndpointInfo) -> str:
    """Full name of the node that an endpoint belongs to, as far as the middleware knows it."""
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"


def rival(node: Node, topic: str) -> str:
    """The other node that publishes a topic which this node publishes, too; empty without one.

    One of the same name is told by `count_of_name`.
    """
    own = node.get_fully_qualified_name()
    names = [
        node_of(info)
        for info in node.get_publishers_info_by_topic(topic)
        if info.node_name != UNKNOWN
    ]
    return printable(next((name for name in names if name != own), ""))


def count_of_name(node: Node) -> int:
    """How many nodes of the graph have this node's full name."""
    own = node.get_name(), node.get_namespace()
    return [(name, space) for name, space in node.get_node_names_and_namespaces()].count(own)


def shared_memory_obstacle(publisher: TopicEndpointInfo, own: TopicEndpointInfo) -> str:
    """Why Fast DDS on one machine delivers nothing although the endpoints match; else empty.

    Processes of one machine exchange data, and their nodes' names, only through /dev/shm. Another
    user's process cannot open its files there, and another container has its own. Discovery uses
    UDP, so that the publisher is found, but never the name of its node.
    """
    theirs, ours = bytes(publisher.endpoint_gid), bytes(own.endpoint_gid)
    one_machine = theirs[:2] == EPROSIMA and theirs[:4] == ours[:4]
    if publisher.node_name != UNKNOWN or not one_machine:
        return ""
    number = int.from_bytes(theirs[4:6], "little")  # the process id's lower half
    users = _users_of(number)
    if users and os.geteuid() not in users:
        cause = f"it runs as user {users.pop()}, this node as user {os.geteuid()}; run both as one"
    else:
        cause = "it runs in another container or as another user; start containers with --ipc=host"
    return (
        f"it is on this machine, but shares no memory with this node: {cause}, or this node "
        "without shared memory (FASTDDS_BUILTIN_TRANSPORTS=UDPv4 and no Fast DDS profile)"
    )


def _users_of(number: int) -> set[int]:
    """Users of the visible processes whose id ends in these 16 bits."""
    users = set()
    for folder in PROCESSES.glob("[0-9]*"):
        if int(folder.name) % 2**16 == number:
            try:
                users.add(folder.stat().st_uid)
            except OSError:  # it has just ended
                continue
    return users


def _name(publisher: TopicEndpointInfo) -> str:
    if publisher.node_name == UNKNOWN:
        return "a node of unknown name"
    if publisher.node_name == BARE:
        return "a DDS application without a node"
    return printable(publisher.node_name)  # other implementations of DDS do not check names


def _reliability(info: TopicEndpointInfo) -> str:
    return info.qos_profile.reliability.name.lower()


def _nothing_known() -> str:
    return (
        "type and QoS match; it sends nothing ('ros2 topic hz' shows that), or every image is "
        f"lost in transport: {dds_profile.suggestion()}"
    )


def _fix_of_type(topic: str, theirs: str) -> str:
    """What to do about a publisher of another type."""
    if theirs.endswith("/CompressedImage"):
        if topic.endswith(COMPRESSED_SUFFIX):
            base = topic.removesuffix(COMPRESSED_SUFFIX)
            return f"set image_transport:=compressed and image_topics:={base}"
        return (
            f"let it publish on {compressed_topic(topic)} (remap it), and set "
            "image_transport:=compressed"
        )
    if theirs.endswith("/Image"):
        return f"set image_transport:=raw and image_topics:={topic}"
    return "choose an image topic"
