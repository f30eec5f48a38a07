# SPDX-License-Identifier: Apache-2.0
"""The health of one camera: its status in /diagnostics, and what of it is logged."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node

from ssd_ros.image import printable
from ssd_ros.ros import dds_profile
from ssd_ros.ros.camera import Camera
from ssd_ros.ros.diagnostic_status import make_status, milliseconds
from ssd_ros.ros.endpoints import Endpoints, rival
from ssd_ros.ros.failures import REMEMBERED, kind_of
from ssd_ros.ros.frames import CameraSnapshot

SILENT = "silent"  # the kind of problem of a camera without images, followed by the reason's


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
        status = make_status(self._name, "", level, summary, _camera_values(camera))
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
    values |= milliseconds("latency", counts.latencies)
    values |= milliseconds("arrival to publication", counts.processing_latency)
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
