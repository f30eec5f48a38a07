# SPDX-License-Identifier: Apache-2.0
"""What the node says of its health, in /diagnostics and in the log.

Levels of the detector: ERROR where something failed (the message says what), WARN while it is not
active or is paused, else OK. Levels of a camera: STALE where images came and come no more, WARN
where none has come yet, where images are lost on the way, and where the last ten seconds brought
bad or too old ones, else OK.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from ssd_ros.detector import Detector
from ssd_ros.ros import dds_profile
from ssd_ros.ros.camera import Camera
from ssd_ros.ros.frame_loss import FrameLoss

REMEMBERED = 10.0  # seconds that a bad image stays in a camera's line


def node_status(
    name: str,
    weights: str,
    detector: Detector | None,
    state: str,
    failure: str,
    inference: Sequence[float],
) -> DiagnosticStatus:
    """The detector's line.

    Args:
        name: of the node.
        weights: the file that the model was read from.
        detector: the model in force.
        state: detecting, paused, inactive or unconfigured.
        failure: what went wrong last, empty for nothing.
        inference: seconds that the latest batches took, from images in memory to boxes.
    """
    level = DiagnosticStatus.OK if state == "detecting" else DiagnosticStatus.WARN
    if failure:
        level, state = DiagnosticStatus.ERROR, failure
    values: dict[str, object] = {"weights": weights}
    if detector:
        values |= {
            "device": detector.device,
            "precision": detector.precision,
            "classes": len(detector.classes),
        }
    values |= _milliseconds("inference", inference)
    return _status(name, detector.device if detector else "", level, state, values)


@dataclass(frozen=True)
class Look:
    """What a look at a camera gave.

    Attributes:
        status: its line in /diagnostics.
        warning, news: what is to be said in the log now, empty for nothing: each trouble once.
    """

    status: DiagnosticStatus
    warning: str = ""
    news: str = ""


class Watch:
    """Looks at a camera once a second, and tells what is new.

    Args:
        node: name of the detector.
        camera: whom to watch.
    """

    def __init__(self, node: str, camera: Camera) -> None:
        self._name = f"{node}: {camera.topic}"
        self._camera = camera
        self._bad = self._too_old = 0  # at the look before
        self._bad_at = self._too_old_at = -math.inf  # when they last grew
        self._trouble = ""

    def look(self, timeout: float, other_topics: Callable[[], Iterable[str]]) -> Look:
        """What there is to say of the camera.

        Args:
            timeout: seconds without an image that are too many.
            other_topics: image topics that exist beside this one; asked for only where needed.
        """
        camera, counts = self._camera, self._camera.counts
        losses, now = camera.losses(), time.monotonic()
        if counts.bad > self._bad:
            self._bad, self._bad_at = counts.bad, now
        if counts.too_old > self._too_old:
            self._too_old, self._too_old_at = counts.too_old, now
        level, kind, summary = DiagnosticStatus.WARN, "", ""
        if not camera.subscribed:
            level, summary = DiagnosticStatus.OK, "not subscribed"
        elif camera.quiet_for > timeout:
            level = DiagnosticStatus.STALE if counts.received else DiagnosticStatus.WARN
            kind, summary = "quiet", why_quiet(camera, other_topics)
        elif now - self._bad_at < REMEMBERED:
            summary = f"{counts.bad} bad images, the last: {counts.last_bad}"
        elif now - self._too_old_at < REMEMBERED:
            summary = f"{counts.too_old} images were older than max_frame_age"
        elif losses and losses.noticeable:
            kind = "lossy"
            summary = (
                f"{losses.share:.0%} of the images on '{camera.topic}' (one every "
                f"{1e3 * losses.period:.0f} ms) are lost on the way: {dds_profile.suggestion()}"
            )
        else:
            level, summary = DiagnosticStatus.OK, f"{counts.processed} images processed"
        status = _status(self._name, "", level, summary, _camera_values(camera, losses))
        before, self._trouble = self._trouble, kind
        if kind and kind != before:
            return Look(status, warning=summary)
        if before == "quiet" and camera.subscribed and not kind:
            return Look(status, news=f"'{camera.topic}': images arrive")
        return Look(status)


def _camera_values(camera: Camera, losses: FrameLoss | None) -> dict[str, object]:
    counts = camera.counts
    values: dict[str, object] = {
        "received": counts.received,
        "processed": counts.processed,
        "superseded": counts.superseded,
        "too old": counts.too_old,
        "bad": counts.bad,
        "last bad": counts.last_bad,
    }
    if losses:
        values["period (ms)"] = f"{1e3 * losses.period:.1f}"
        values["lost on the way (%)"] = f"{100 * losses.share:.0f}"
    values |= _milliseconds("latency", list(counts.latencies))
    values |= _milliseconds("arrival to publication", list(counts.handling))
    return values


def why_quiet(camera: Camera, other_topics: Callable[[], Iterable[str]]) -> str:
    """Why no image may come, for somebody who has to find out."""
    start = f"no image on '{camera.topic}' for {camera.quiet_for:.0f} s"
    publishers = camera.publishers()
    if not publishers:
        others = ", ".join(other_topics()) or "none"
        return f"{start}: nobody publishes it. Image topics that exist: {others}"
    offers = ", ".join(
        f"{publisher.node_name} ({publisher.qos_profile.reliability.name.lower()})"
        for publisher in publishers
    )
    asked = camera.reliability.name.lower()
    return f"{start}; published by {offers}, subscribed {asked}"


def _milliseconds(name: str, seconds: Sequence[float]) -> dict[str, str]:
    """Median and 95th percentile for people; nothing where there is too little to tell."""
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
    return DiagnosticStatus(
        name=name,
        hardware_id=hardware_id,
        level=level,
        message=summary,
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )
