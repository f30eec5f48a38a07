# SPDX-License-Identifier: Apache-2.0
"""The node's health in /diagnostics and in the log.

Levels of the detector: ERROR if something failed (the message says what), WARN while it is not
active or is paused, while a batch takes long, while the class filter has names that the weights do
not have, for ten seconds after a failed batch or callback, while another node has its name, and if
the web page cannot be opened, else OK. Levels of a camera: STALE if images were received and none
arrives any more, WARN if none has been received yet, if images are lost in transport, if another
node publishes the same outputs, if markers cannot be made, while images are invalid or too old and
for ten seconds more, else OK.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node

from ssd_ros.ros import dds_profile
from ssd_ros.ros.camera import Camera
from ssd_ros.ros.camera_monitor import CameraMonitor
from ssd_ros.ros.diagnostic_status import make_status, milliseconds
from ssd_ros.ros.endpoints import count_of_name
from ssd_ros.ros.failures import FailureLog
from ssd_ros.ros.image_topics import image_topics
from ssd_ros.ros.inference_loop import InferenceLoop
from ssd_ros.ros.node_state import NodeState


def node_status(
    name: str,
    weights: str,
    state: NodeState,
    failure: str,
    callbacks: FailureLog,
    loop: InferenceLoop | None,
    download: str,
    lesser: Sequence[str],
) -> DiagnosticStatus:
    """The detector's status.

    Args:
        name: fully qualified name of the node.
        weights: value of the parameter.
        failure: why the last transition failed; empty if it did not.
        callbacks: failures of callbacks, also of requests that cannot be served.
        loop: None while the node is unconfigured.
        download: of weights that is running; empty if none is.
        lesser: problems that are told where there is no other, the first that is not empty.
    """
    level = DiagnosticStatus.OK if state is NodeState.DETECTING else DiagnosticStatus.WARN
    values: dict[str, object] = {"weights": weights, "failed callbacks": callbacks.count}
    device, warning = "", callbacks.last if callbacks.recent else ""
    if loop is not None:
        detector, failure, device = loop.detector, failure or loop.failure, loop.detector.device
        values |= {
            "device": device,
            "precision": detector.precision,
            "classes": len(detector.classes),
            "failed batches": loop.failures.count,
        }
        if loop.failures.recent:
            warning = f"{loop.failures.count} batches failed; last error: {loop.failures.last}"
        warning = loop.busy or warning or loop.class_filter_problem
        values |= milliseconds("inference", loop.recent_durations)
    if download:
        values["download"] = download
    if download and loop is None:  # what failed is what waits for the download
        return make_status(name, device, level, download, values)
    if failure:
        level = DiagnosticStatus.ERROR
    elif warning := warning or next(filter(None, lesser), ""):
        level = DiagnosticStatus.WARN
    return make_status(name, device, level, failure or warning or state.value, values)


class NameMonitor:
    """Reports other nodes of this node's full name, which ROS lets start.

    Args:
        node: the detector node.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._previous = self._logged = ""

    def check(self) -> str:
        """What is wrong with the name, which is logged when it begins; empty for nothing."""
        name, count = self._node.get_fully_qualified_name(), count_of_name(self._node)
        found = (
            f"{count} nodes are named {name}: parameters and services reach any of them; start "
            "each with a name or namespace of its own (-r __node:=NAME, -r __ns:=/NAMESPACE), or "
            "end the one that is left over"
        )
        problem = found if count > 1 else ""
        # Twice: one that was restarted may be known for a moment longer than it ran.
        lasting = problem if problem == self._previous else ""
        self._previous = problem
        if lasting and lasting != self._logged:
            self._node.get_logger().warning(lasting)
        self._logged = lasting
        return lasting


class DiagnosticsPublisher:
    """Publishes the status of the node and of its cameras, and logs the cameras' problems.

    Args:
        node: the detector node.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._cameras: Iterable[Camera] = ()
        self._monitors: list[CameraMonitor] = []
        self.name_problem = NameMonitor(node).check  # for `node_status`, once for each
        problem = dds_profile.shared_memory_problem() or dds_profile.unused_shared_memory()
        if problem:
            node.get_logger().warning(problem)

    def set_cameras(self, cameras: Iterable[Camera]) -> None:
        """Replaces the cameras that are monitored."""
        self._cameras = tuple(cameras)
        self._monitors = [CameraMonitor(self._node, camera) for camera in self._cameras]

    def publish(self, node_status: DiagnosticStatus, image_timeout: float) -> DiagnosticArray:
        """Checks the cameras, publishes all statuses and returns them.

        Args:
            image_timeout: seconds without an image after which a camera is reported.
        """
        message = DiagnosticArray(status=[node_status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        for monitor in self._monitors:
            report = monitor.check(image_timeout, self._other_image_topics)
            message.status.append(report.status)
            for warning in report.warnings:
                self._node.get_logger().warning(warning)
            for event in report.events:
                self._node.get_logger().info(event)
        self._publisher.publish(message)
        return message

    def _other_image_topics(self) -> list[str]:
        own = {camera.topic for camera in self._cameras}
        return [name for name in image_topics(self._node) if name not in own]
