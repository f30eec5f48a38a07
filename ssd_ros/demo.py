# SPDX-License-Identifier: Apache-2.0
"""The whole path in one command: image source, detector and a listener as three processes."""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rclpy
from ament_index_python.packages import get_package_share_directory
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from ssd_ros import picture_files
from ssd_ros.images import picture_from_image

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
ROW = "{:>5}  {:<16} {:>5}  {:>24}  {:>10}"


class Listener(Node):
    """Prints detections as they arrive and keeps the annotated pictures."""

    def __init__(self, out: Path) -> None:
        super().__init__("demo_listener")
        self._out = out
        self._stamps: dict[tuple[int, int], int] = {}  # stamp of a frame -> its number
        self.latencies: list[float] = []
        self.detections = 0
        self.drawn = 0
        self.failure = ""
        self.create_subscription(Detection2DArray, "detections", self._on_detections, 10)
        self.create_subscription(Image, "detections_image", self._on_picture, 10)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _number(self, stamp: object) -> int:
        key = (stamp.sec, stamp.nanosec)  # type: ignore[attr-defined]
        return self._stamps.setdefault(key, len(self._stamps) + 1)

    def _on_detections(self, message: Detection2DArray) -> None:
        stamp = Time.from_msg(message.header.stamp, clock_type=self.get_clock().clock_type)
        latency = (self.get_clock().now() - stamp).nanoseconds * 1e-6
        self.latencies.append(latency)
        self.detections += len(message.detections)
        number = self._number(message.header.stamp)
        for found in message.detections or [None]:
            print(_row(number, found, latency), flush=True)

    def _on_picture(self, message: Image) -> None:
        number = self._number(message.header.stamp)
        pixels = picture_from_image(message).pixels
        picture_files.write(self._out / f"frame_{number:03}.jpg", np.ascontiguousarray(pixels))
        self.drawn += 1

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        errors = [s.message for s in message.status if s.level == DiagnosticStatus.ERROR]
        self.failure = errors[0] if errors else ""


def _row(number: int, found: object, latency: float) -> str:
    if found is None:
        return ROW.format(number, "(nothing)", "", "", f"{latency:.0f} ms")
    box, best = found.bbox, found.results[0].hypothesis  # type: ignore[attr-defined]
    corner = (box.center.position.x - box.size_x / 2, box.center.position.y - box.size_y / 2)
    place = f"{corner[0]:.0f},{corner[1]:.0f} {box.size_x:.0f}x{box.size_y:.0f}"
    return ROW.format(number, best.class_id, f"{best.score:.2f}", place, f"{latency:.0f} ms")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 only where detections arrived from the running node."""
    options = _parser().parse_args(arguments)
    for name, value in (("weights", options.weights), ("images", options.images)):
        if not Path(value).exists():
            print(f"error: --{name}: no such file or folder: '{value}'", file=sys.stderr)
            return 1
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if not any(name in os.environ for name in PROFILE_VARIABLES):
        os.environ |= dict.fromkeys(PROFILE_VARIABLES, str(options.profile))

    options.out.mkdir(parents=True, exist_ok=True)
    rclpy.init()
    listener = Listener(options.out)
    start = time.monotonic()
    print(f"starting the detector and a camera showing '{options.images}' …", flush=True)
    print(ROW.format("frame", "class", "score", "box (x,y wxh in pixels)", "latency"), flush=True)
    parameters = {"weights": options.weights, "score_threshold": options.score_threshold}
    camera = {"source": options.images, "rate": options.rate}
    with (
        _node("detector_node", parameters, options.out / "detector.log") as detector,
        _node("image_source_node", camera, options.out / "image_source.log") as source,
    ):
        while time.monotonic() - start < options.timeout:
            rclpy.spin_once(listener, timeout_sec=0.2)
            if min(len(listener.latencies), listener.drawn) >= options.frames:
                break
            if listener.failure or detector.poll() is not None or source.poll() is not None:
                break
    listener.destroy_node()
    rclpy.try_shutdown()

    if listener.detections:
        print(
            f"demo: {listener.detections} detections in {len(listener.latencies)} pictures, "
            f"latency {statistics.median(listener.latencies):.0f} ms median; "
            f"{listener.drawn} annotated pictures in '{options.out}'"
        )
        return 0
    print(f"demo: no detections in {time.monotonic() - start:.0f} s", file=sys.stderr)
    for log in ("detector.log", "image_source.log"):
        print(f"--- {log}\n{(options.out / log).read_text()}", file=sys.stderr)
    return 1


@contextmanager
def _node(
    module: str, parameters: dict[str, object], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """One of this package's nodes in a process of its own, ended as Ctrl-C would."""
    command = [sys.executable, "-m", f"ssd_ros.{module}", "--ros-args"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value}"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def _shipped_profile() -> Path:
    """In a clone beside the package, in an installation in the package's share folder."""
    clone = Path(__file__).resolve().parent.parent
    if (clone / "package.xml").exists():
        return clone / "config" / "fastdds.xml"
    return Path(get_package_share_directory("ssd_ros")) / "config" / "fastdds.xml"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ssd_ros.demo",
        description="Shows pictures to the detector node as a camera would, over ROS 2, and prints "
        "what it finds.",
    )
    add = parser.add_argument
    add("--weights", required=True, help="weights file")
    add("--images", required=True, help="folder of pictures, or a video file")
    add("--out", type=Path, default=Path("demo_out"), help="folder for annotated pictures and logs")
    add("--frames", type=int, default=20, help="stop after so many (default: %(default)s)")
    add("--rate", type=float, default=5.0, help="pictures a second (default: %(default)s)")
    add("--score-threshold", type=float, default=0.5, help="default: %(default)s")
    add("--timeout", type=float, default=180.0, help="give up after so many seconds")
    add(
        "--profile",
        type=Path,
        default=_shipped_profile(),
        help="Fast DDS profile for both sides, where the environment names none",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
