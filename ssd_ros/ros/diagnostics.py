# SPDX-License-Identifier: Apache-2.0
"""The node's health in /diagnostics and in the log.

Levels of the detector: ERROR if something failed (the message says what), WARN while it is not
active or is paused, while a batch takes long, while the class filter has names that the weights do
not have, for ten seconds after a failed batch or callback, and if the web page cannot be opened,
else OK. Levels of a camera: STALE if images were received and none arrives any more, WARN if none
has been received yet, if images are lost in transport, if another node publishes the same outputs,
if markers cannot be made, and for ten seconds after an invalid or too old image, else OK.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from ssd_ros.image import printable
from ssd_ros.ros import dds_profile
from ssd_ros.ros.camera import Camera
from ssd_ros.ros.endpoints import Endpoints, rival
from ssd_ros.ros.failures import REMEMBERED, FailureLog, kind_of
from ssd_ros.ros.frames import CameraSnapshot
from ssd_ros.ros.image_topics import image_topics
from ssd_ros.ros.inference_loop import InferenceLoop
from ssd_ros.ros.node_state import NodeState

SILENT = "silent"  # the kind of problem of a camera without images, followed by the reason's


def node_status(
    name: str,
    weights: str,
    state: NodeState,
    failure: str,
    callbacks: FailureLog,
    loop: InferenceLoop | None,
    download: str,
    web_problem: str,
) -> DiagnosticStatus:
    """The detector's status.

    Args:
        name: fully qualified name of the node.
        weights: value of the parameter.
        failure: why the last transition failed; empty if it did not.
        callbacks: failures of callbacks, also of requests that cannot be served.
        loop: None while the node is unconfigured.
        download: of weights that is running; empty if none is.
        web_problem: why there is no web page though one is configured; else empty.
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
        values |= _milliseconds("inference", loop.recent_durations)
    if download:
        values["download"] = download
    if download and loop is None:  # what failed is what waits for the download
        return _status(name, device, level, download, values)
    if failure:
        level = DiagnosticStatus.ERROR
    elif warning := warning or web_problem:
        level = DiagnosticStatus.WARN
    return _status(name, device, level, failure or warning or state.value, values)


@dataclass(frozen=True)
class Report:
    """The result of one check of a camera.

    Attributes:
        status: the camera's status in /diagnostics.
        warnings: problems to log now; each problem is reported once, when it begins.
        events: other changes to log now.
    """

    status: DiagnosticStatus
    warnings: tuple[str, ...] = ()
    events: tuple[str, ...] = ()


class CameraMonitor:
    """Checks a camera periodically and reports what has changed.

    Args:
        node: the detector.
        camera: the camera to check.
    """

    def __init__(self, node: Node, camera: Camera) -> None:
        self._node = node
        self._name = f"{node.get_fully_qualified_name()}: {camera.topic}"
        self._camera = camera
        self._bad = self._too_old = 0  # counts at the previous check
        self._bad_at = self._too_old_at = -math.inf  # when they last grew
        self._problem = self._logged = ""  # kinds, as `_judge` gives them
        self._told_unstamped = False

    def check(self, timeout: float, other_topics: Callable[[], Iterable[str]]) -> Report:
        """The camera's status, and what is to be logged.

        Args:
            timeout: seconds without an image after which it is reported.
            other_topics: finds the image topics that exist besides the camera's; called only if
                no image arrives.
        """
        camera = self._camera.snapshot()
        report = self._check(camera, timeout, other_topics)
        if self._told_unstamped or not camera.counts.unstamped:
            return report
        self._told_unstamped = True
        text = (
            f"images on '{camera.topic}' have the stamp 0 (max_frame_age would drop them), or "
            "use_sim_time is set without a /clock (it would drop none): their latency is not "
            "measured"
        )
        return replace(report, warnings=(*report.warnings, text))

    def _check(
        self, camera: CameraSnapshot, timeout: float, other_topics: Callable[[], Iterable[str]]
    ) -> Report:
        self._note_growth(camera)
        level, problem, summary = self._judge(camera, timeout, other_topics)
        status = _status(self._name, "", level, summary, _camera_values(camera))
        previous, self._problem = self._problem, problem
        if not problem:
            was_silent, self._logged = self._logged.startswith(SILENT), ""
            if was_silent and camera.reliability is not None:
                return Report(status, events=(f"'{camera.topic}': receiving images again",))
        # Twice: while endpoints find each other a publisher's node, for one, is not known yet.
        elif problem == previous != self._logged:
            self._logged = problem
            return Report(status, warnings=(summary,))
        return Report(status)

    def _note_growth(self, camera: CameraSnapshot) -> None:
        now = time.monotonic()
        if camera.counts.bad > self._bad:
            self._bad, self._bad_at = camera.counts.bad, now
        if camera.counts.too_old > self._too_old:
            self._too_old, self._too_old_at = camera.counts.too_old, now

    def _judge(
        self, camera: CameraSnapshot, timeout: float, other_topics: Callable[[], Iterable[str]]
    ) -> tuple[bytes, str, str]:
        """Level, kind of a problem that is logged (else empty), summary."""
        counts, loss, now = camera.counts, camera.loss, time.monotonic()
        if camera.reliability is None:
            return DiagnosticStatus.OK, "", "not subscribed"
        if camera.seconds_since_image > timeout:
            level = DiagnosticStatus.STALE if counts.received else DiagnosticStatus.WARN
            endpoints = self._camera.endpoints()
            kind = SILENT + kind_of(endpoints.explain())
            return level, kind, explain_no_images(camera, endpoints, other_topics)
        if counts.last_is_bad or now - self._bad_at < REMEMBERED:
            summary = f"{counts.bad} invalid images; last error: {counts.last_bad}"
            return DiagnosticStatus.WARN, "", summary
        if now - self._too_old_at < REMEMBERED:
            summary = f"{counts.too_old} images dropped (older than max_frame_age)"
            return DiagnosticStatus.WARN, "", summary
        if loss and loss.noticeable:
            summary = (
                f"{loss.share:.0%} of images on '{camera.topic}' are lost in transport: "
                f"{dds_profile.suggestion()}"
            )
            return DiagnosticStatus.WARN, "lossy", summary
        if other := rival(self._node, topic := self._camera.detections_topic):
            summary = (
                f"'{topic}' is also published by {other}: set the parameter output_namespace of "
                "one of the two, or remap its outputs"
            )
            return DiagnosticStatus.WARN, f"rival {other}", summary
        if no_markers := self._camera.markers_problem(timeout):
            return DiagnosticStatus.WARN, kind_of(no_markers), no_markers
        return DiagnosticStatus.OK, "", f"{counts.processed} images processed"


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
        if problem := dds_profile.shared_memory_problem():
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


def _camera_values(camera: CameraSnapshot) -> dict[str, object]:
    counts = camera.counts
    values: dict[str, object] = {
        "received": counts.received,
        "processed": counts.processed,
        "superseded": counts.superseded,
        "too old": counts.too_old,
        "bad": counts.bad,
        "failed": counts.failed,
        "discarded": counts.discarded,
        "last bad": counts.last_bad,
    }
    if camera.loss:
        values["lost on the way (%)"] = f"{100 * camera.loss.share:.0f}"
    values |= _milliseconds("latency", counts.latencies)
    values |= _milliseconds("arrival to publication", counts.processing_latency)
    return values


def explain_no_images(
    camera: CameraSnapshot, endpoints: Endpoints, other_topics: Callable[[], Iterable[str]]
) -> str:
    """The probable reason why no image arrives.

    Args:
        camera: subscribed.
        endpoints: of the camera's topic.
        other_topics: finds the image topics that exist besides the camera's.
    """
    start = f"no image on '{camera.topic}' for {camera.seconds_since_image:.0f} s"
    if endpoints.publishers:
        return f"{start}; {endpoints.explain()}"
    others = printable(", ".join(other_topics()))  # of other implementations' unchecked names, too
    if not others:
        domain = os.environ.get("ROS_DOMAIN_ID") or "0"
        others = f"no other; this node is in ROS domain {domain}"
    return f"{start}: topic has no publishers. Available image topics: {others}"


def _milliseconds(name: str, seconds: Sequence[float]) -> dict[str, str]:
    """Median and 95th percentile in milliseconds; nothing for fewer than two values."""
    if len(seconds) < 2:
        return {}
    p95 = statistics.quantiles(seconds, n=20)[-1]
    return {
        f"{name} median (ms)": f"{1e3 * statistics.median(seconds):.1f}",
        f"{name} p95 (ms)": f"{1e3 * p95:.1f}",
    }


def _status(
    name: str, hardware_id: str, level: bytes, summary: str, values: Mapping[str, object]
) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(
        name=name, hardware_id=hardware_id, level=level, message=summary, values=pairs
    )
