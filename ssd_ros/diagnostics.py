# SPDX-License-Identifier: Apache-2.0
"""What the node says of its health, in /diagnostics and in the log."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from ssd_ros.camera import Camera
from ssd_ros.detector import Detector

QUIET_AFTER = 5.0  # seconds without a picture before the node says so


def node_status(
    name: str, weights: str, detector: Detector | None, active: bool, failure: str
) -> DiagnosticStatus:
    """The detector's line: ERROR with the reason of a failure, WARN while it does not detect."""
    state = "detecting" if active else "inactive" if detector else "unconfigured"
    level = DiagnosticStatus.OK if active else DiagnosticStatus.WARN
    if failure:
        level, state = DiagnosticStatus.ERROR, failure
    values: dict[str, object] = {"weights": weights}
    if detector:
        values |= {
            "device": detector.device,
            "precision": detector.precision,
            "classes": len(detector.classes),
        }
    return _status(name, detector.device if detector else "", level, state, values)


def camera_status(name: str, camera: Camera) -> DiagnosticStatus:
    """A camera's line: WARN while no picture comes, or once bad ones came."""
    counts = camera.counts
    level, summary = DiagnosticStatus.OK, f"{counts.processed} pictures processed"
    if camera.quiet_for > QUIET_AFTER:
        level, summary = DiagnosticStatus.WARN, f"no picture for {camera.quiet_for:.0f} s"
    elif counts.bad:
        level, summary = DiagnosticStatus.WARN, f"{counts.bad} bad pictures"
    values: dict[str, object] = {
        "received": counts.received,
        "processed": counts.processed,
        "superseded": counts.superseded,
        "bad": counts.bad,
        "last bad": counts.last_bad,
    }
    latencies = list(counts.latencies)
    if len(latencies) > 1:
        p95 = statistics.quantiles(latencies, n=20)[-1]
        values["latency median (ms)"] = f"{1e3 * statistics.median(latencies):.1f}"
        values["latency p95 (ms)"] = f"{1e3 * p95:.1f}"
    return _status(f"{name}: {camera.topic}", "", level, summary, values)


def why_quiet(camera: Camera, other_image_topics: Iterable[str]) -> str:
    """Why no picture may come, for somebody who has to find out."""
    start = f"no picture on '{camera.topic}' for {QUIET_AFTER:g} s"
    publishers = camera.publishers()
    if not publishers:
        others = ", ".join(other_image_topics) or "none"
        return f"{start}: nobody publishes it. Image topics that exist: {others}"
    offers = ", ".join(
        f"{publisher.node_name} ({publisher.qos_profile.reliability.name.lower()})"
        for publisher in publishers
    )
    asked = camera.reliability.name.lower()
    return f"{start}; published by {offers}, subscribed {asked}"


def _status(
    name: str, hardware_id: str, level: bytes, summary: str, values: Mapping[str, object]
) -> DiagnosticStatus:
    return DiagnosticStatus(
        name=name,
        hardware_id=hardware_id,
        level=level,
        message=summary,
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )
