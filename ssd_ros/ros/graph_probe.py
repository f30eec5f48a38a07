# SPDX-License-Identifier: Apache-2.0
"""Watches a ROS graph for some seconds, with subscriptions like a detector's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python

from ssd_ros.ros.discovery_peer import PREFIX, Peer, peer
from ssd_ros.ros.endpoints import Endpoints, node_of
from ssd_ros.ros.frozen_graph import FrozenGraph
from ssd_ros.ros.graph_snapshot import Connection, GraphSnapshot, ImageTopic, RunningDetector
from ssd_ros.ros.image_topics import COMPRESSED, RAW, image_topics
from ssd_ros.ros.image_transport import COMPRESSED_SUFFIX
from ssd_ros.ros.topic_watch import TopicWatch
from ssd_ros.ros.topics import TopicResolver

T = TypeVar("T")
NAME = "_ssd_ros_doctor"
SERVICE_TIMEOUT = 3.0  # seconds
PEER_START = 60.0  # seconds that the start of another process may take
DISCOVERY_TIMEOUT = 5.0  # seconds; nodes announce themselves every 3 s at least
LOOK_EVERY = 0.2
ENABLE = "std_srvs/srv/SetBool"
ASKED = ("image_topics", "image_transport", "weights", "use_sim_time")


def probe(seconds: float, names: Sequence[str] = ()) -> GraphSnapshot:
    """Looks at the graph.

    Args:
        seconds: to listen to image topics and /diagnostics, at least.
        names: image topics to subscribe to; none means all that exist.

    Raises:
        ValueError: one of them is not a topic name.
    """
    with ExitStack() as stack:
        rclpy.init(args=[])
        stack.callback(rclpy.try_shutdown)
        node = Node(NAME, enable_rosout=False, start_parameter_services=False)
        stack.callback(node.destroy_node)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        stack.callback(executor.shutdown)
        return _Probe(node, executor, names).run(seconds, stack.enter_context(peer()))


class _Probe:
    """One look at a graph."""

    def __init__(self, node: Node, executor: SingleThreadedExecutor, names: Sequence[str]) -> None:
        self._node = node
        self._executor = executor
        self._names = list(map(TopicResolver(node), names))
        self._watches: dict[str, TopicWatch] = {}
        self._statuses: dict[str, tuple[int, str, str]] = {}
        node.create_subscription(DiagnosticArray, "/diagnostics", self._note, 100)

    def run(self, seconds: float, other: Peer) -> GraphSnapshot:
        """Watches, asks the detectors, and returns what was seen."""
        start = time.monotonic()
        self._spin(lambda: time.monotonic() - start > seconds)
        self._spin(other.started, PEER_START)
        failure = other.failure()
        look_for_it = partial(self._knows, other.name)
        peer_found = not failure and self._spin(look_for_it, DISCOVERY_TIMEOUT)
        graph = FrozenGraph(self._node)
        topics = [watch.result(graph) for watch in self._watches.values()]
        has_clock = bool(graph.get_publishers_info_by_topic("/clock"))
        watched = self._watches.keys()
        seen = watched | {name.removesuffix(COMPRESSED_SUFFIX) for name in watched}
        return GraphSnapshot(
            seconds,
            _nodes(graph),
            list(image_topics(graph)),
            self._names,
            [*(ImageTopic(name) for name in self._names if name not in seen), *topics],
            self._detectors(graph),
            has_clock,
            peer_found,
            failure,
        )

    def _spin(self, done: Callable[[], object], timeout: float = float("inf")) -> bool:
        """Handles messages and new topics until something is true. Returns whether it is."""
        deadline, look_at = time.monotonic() + timeout, 0.0
        while not done():
            if time.monotonic() > deadline:
                return False
            if time.monotonic() > look_at:
                self._look()
                look_at = time.monotonic() + LOOK_EVERY
            self._executor.spin_once(timeout_sec=LOOK_EVERY / 4)
        return True

    def _look(self) -> None:
        """Subscribes to new image topics, and follows the QoS of their publishers."""
        for name, kind in image_topics(self._node).items():
            asked = not self._names or {name, name.removesuffix(COMPRESSED_SUFFIX)} & set(
                self._names
            )
            if asked and name not in self._watches:
                self._watches[name] = TopicWatch(self._node, name, kind)
        for watch in self._watches.values():
            watch.adapt()

    def _note(self, message: DiagnosticArray) -> None:
        for status in message.status:
            level = int.from_bytes(status.level, "little")  # a byte
            self._statuses[status.name] = level, status.name, status.message

    def _knows(self, name: str) -> bool:
        return any(known == name for known, _ in self._node.get_node_names_and_namespaces())

    def _detectors(self, graph: FrozenGraph) -> list[RunningDetector]:
        # First all that the graph is asked for: detectors that are busy take seconds to answer.
        subscriptions = {name: _subscriptions(graph, name) for name in _detector_names(graph)}
        told = (self._detector(*of_one) for of_one in subscriptions.items())
        return [detector for detector in told if detector is not None]

    def _detector(
        self, name: str, subscriptions: Mapping[str, Sequence[Connection]]
    ) -> RunningDetector | None:
        """What a node tells of itself; None for one that is no detector."""
        state = self._call(GetState, f"{name}/get_state", GetState.Request())
        request = GetParameters.Request(names=list(ASKED))
        values = self._call(GetParameters, f"{name}/get_parameters", request)
        if values is not None and not values.values:  # it does not have all of these parameters
            return None
        given = map(parameter_value_to_python, values.values) if values else ()
        own = [s for s in self._statuses.values() if s[1] == name or s[1].startswith(f"{name}: ")]
        return RunningDetector(
            name,
            state.current_state.label if state else "",
            dict(zip(ASKED, given, strict=False)),
            sorted(own, key=lambda status: status[1]),
            subscriptions,
        )

    def _call(self, kind: Any, service: str, request: Any) -> Any:
        """The answer of a service; None without one in time."""
        client = self._node.create_client(kind, service)
        try:
            if not self._spin(client.service_is_ready, SERVICE_TIMEOUT):
                return None
            future = client.call_async(request)
            return future.result() if self._spin(future.done, SERVICE_TIMEOUT) else None
        finally:
            self._node.destroy_client(client)


def _nodes(graph: FrozenGraph) -> list[str]:
    names = graph.get_node_names_and_namespaces()
    others = [(name, space) for name, space in names if not name.startswith((NAME, PREFIX))]
    return sorted(f"{space.rstrip('/')}/{name}" for name, space in others)


def _detector_names(graph: FrozenGraph) -> list[str]:
    """The nodes with the services of a detector."""
    services, nodes = dict(graph.get_service_names_and_types()), _nodes(graph)
    names = (n.removesuffix("/enable") for n, kinds in services.items() if ENABLE in kinds)
    return sorted(n for n in names if f"{n}/get_state" in services and n in nodes)


def _subscriptions(graph: FrozenGraph, detector: str) -> dict[str, list[Connection]]:
    """The image topics that a detector is subscribed to."""
    found = {}
    for topic, _ in graph.get_topic_names_and_types():
        for info in graph.get_subscriptions_info_by_topic(topic):
            if info.topic_type in (RAW, COMPRESSED) and node_of(info) == detector:
                publishers = graph.get_publishers_info_by_topic(topic)
                found[topic] = Endpoints(topic, info, publishers).connections()
    return found
