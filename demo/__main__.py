# SPDX-License-Identifier: Apache-2.0
"""Runs image source, detector node and a listener as three processes: python -m demo."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import Image as ImageMsg
from vision_msgs.msg import Detection2D, Detection2DArray

from demo.accuracy import LabelledBox, read_ground_truth, summary
from ssd_ros import atomic
from ssd_ros.io import image_files
from ssd_ros.messages.images import image_from_msg
from ssd_ros.ros import dds_profile, process
from ssd_ros.weights import names, reader

DRAIN_TIME = 2.0  # seconds to wait for detections after the camera has ended
WEB_PAGE = re.compile(rb"web page: (http://\S+)")  # in the node's log, once the page listens
ROW = "{:>5}  {:<16} {:>5}  {:>24}  {:>10}"
HEADER = ROW.format("frame", "class", "score", "box (x,y wxh in pixels)", "latency")


class Listener(Node):
    """Prints detections as they arrive and keeps the annotated images.

    Args:
        out: folder for the annotated images.
        all_frames: also subscribe to the camera, to number frames without detections, too.
        keep_images: write the annotated images.
    """

    def __init__(self, out: Path, all_frames: bool, keep_images: bool = True) -> None:
        super().__init__("demo_listener")
        self._out = out
        self._stamps: dict[tuple[int, int], int] = {}  # stamp of a frame -> its number, from 1
        self.latencies: list[float] = []
        self.detections: dict[int, list[LabelledBox]] = {}  # by number of the frame
        self.drawn = 0
        self.failure = ""
        self.create_subscription(Detection2DArray, "detections", self._on_detections, 10)
        if keep_images:
            self.create_subscription(ImageMsg, "detections_image", self._on_image, 10)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        if all_frames:
            self.create_subscription(ImageMsg, "image_raw", self._on_frame, 100)

    @property
    def count(self) -> int:
        """Detections in all frames."""
        return sum(map(len, self.detections.values()))

    def _on_frame(self, message: ImageMsg) -> None:
        self._number(message.header.stamp)

    def _number(self, stamp: object) -> int:
        key = (stamp.sec, stamp.nanosec)  # type: ignore[attr-defined]
        return self._stamps.setdefault(key, len(self._stamps) + 1)

    def _on_detections(self, message: Detection2DArray) -> None:
        latency = None
        if message.header.stamp.sec or message.header.stamp.nanosec:  # else nobody has set it
            stamp = Time.from_msg(message.header.stamp, clock_type=self.get_clock().clock_type)
            latency = (self.get_clock().now() - stamp).nanoseconds * 1e-6
            self.latencies.append(latency)
        if not self.detections:
            print(HEADER)
        number = self._number(message.header.stamp)
        self.detections[number] = [_box_of(detection) for detection in message.detections]
        rows = [_row(number, detection, latency) for detection in self.detections[number]]
        print("\n".join(rows or [_row(number, None, latency)]), flush=True)

    def _on_image(self, message: ImageMsg) -> None:
        number = self._number(message.header.stamp)
        pixels = image_from_msg(message).pixels
        image_files.write(self._out / f"frame_{number:03}.jpg", np.ascontiguousarray(pixels))
        self.drawn += 1

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        errors = [s.message for s in message.status if s.level == DiagnosticStatus.ERROR]
        self.failure = errors[0] if errors else ""


def _box_of(detection: Detection2D) -> LabelledBox:
    box, best = detection.bbox, detection.results[0].hypothesis
    x, y = box.center.position.x, box.center.position.y
    corners = (x - box.size_x / 2, y - box.size_y / 2, x + box.size_x / 2, y + box.size_y / 2)
    return LabelledBox(best.class_id, corners, best.score)


def _row(number: int, detection: LabelledBox | None, latency: float | None) -> str:
    took = "no stamp" if latency is None else f"{latency:.0f} ms"
    if detection is None:
        return ROW.format(number, "no detections", "", "", took)
    x1, y1, x2, y2 = detection.box
    place = f"{x1:.0f},{y1:.0f} {x2 - x1:.0f}x{y2 - y1:.0f}"
    return ROW.format(number, detection.name, f"{detection.score:.2f}", place, took)


def _median(latencies: Sequence[float]) -> str:
    return f"{statistics.median(latencies):.0f} ms" if latencies else "unknown"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo.

    Returns:
        0 if detections arrived from the running node, else 1.
    """
    options = _parser().parse_args(arguments)
    try:
        reader.read(options.weights)  # before two processes are started to find out
        image_files.find([options.images])
        ground_truth = read_ground_truth(options.truth) if options.truth else None
        atomic.make_folder(options.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    dds_profile.apply_profile(options.profile)

    for old in options.out.glob("frame_*.jpg"):
        old.unlink()
    rclpy.init()
    once = ground_truth is not None and not options.live
    listener = Listener(options.out, all_frames=once, keep_images=not options.live)
    start = time.monotonic()
    print(f"starting the detector and a camera showing '{options.images}' …", flush=True)
    web_port = _web_port()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        _listen(listener, options, once, web_port)
    listener.destroy_node()
    rclpy.try_shutdown()

    if not listener.count:
        print(f"demo: no detections in {time.monotonic() - start:.0f} s", file=sys.stderr)
        for log in ("detector.log", "image_source.log"):
            print(f"--- {log}\n{(options.out / log).read_text()}", file=sys.stderr)
        return 1
    if once and ground_truth is not None:
        frames = [(found, ground_truth[n - 1]) for n, found in listener.detections.items()]
        print(f"demo: {summary(frames, len(ground_truth))}")
    print(
        f"demo: {listener.count} detections in {len(listener.detections)} frames, "
        f"latency {_median(listener.latencies)} median; "
        f"{listener.drawn} annotated images in '{options.out}'"
    )
    return 0


def _web_port() -> int:
    """A free port for the node's web page; 0, which means none, without aiohttp."""
    if importlib.util.find_spec("aiohttp") is None:
        return 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listen(listener: Listener, options: argparse.Namespace, once: bool, web_port: int) -> None:
    """Runs both nodes until enough frames have arrived, the camera ends, or a node fails."""
    parameters = {"weights": options.weights, "score_threshold": options.score_threshold}
    parameters["web_port"] = web_port
    camera = {"source": options.images, "rate": options.rate}
    if once:  # every frame, once detector and listener are connected
        camera |= {"loop": False, "wait_for_subscribers": 2}
    end = math.inf if options.live else time.monotonic() + options.timeout
    enough = math.inf if once or options.live else options.frames
    log = options.out / "detector.log"
    with (
        _node("detector_node", parameters, log) as detector,
        _node("image_source_node", camera, options.out / "image_source.log") as source,
    ):
        while time.monotonic() < end and not listener.failure and detector.poll() is None:
            rclpy.spin_once(listener, timeout_sec=0.2)
            if web_port and (address := WEB_PAGE.search(log.read_bytes())):
                print(f"see it in a browser while it runs: {address[1].decode()}", flush=True)
                web_port = 0
            if min(len(listener.detections), listener.drawn) >= enough:
                break
            if source.poll() is not None:  # its last images may still be in transport
                end = min(end, time.monotonic() + DRAIN_TIME)


@contextmanager
def _node(
    module: str, parameters: dict[str, object], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """One of this package's nodes as a child process."""
    command = [sys.executable, "-m", f"ssd_ros.ros.{module}", "--ros-args"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value}"]
    with (
        log.open("wb") as output,
        process.child(command, stdout=output, stderr=subprocess.STDOUT) as running,
    ):
        yield running


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="Publishes images to the detector node as a camera does, and prints its "
        "detections.",
    )
    add = parser.add_argument
    add("--weights", default=names.DEMO, help="weights file (default: the bundled demo weights)")
    add("--images", required=True, help="folder of images, or a video file")
    add("--out", type=Path, default=Path("demo_out"), help="folder for annotated images and logs")
    add("--frames", type=int, default=20, help="number of frames (default: %(default)s)")
    add(
        "--truth",
        type=Path,
        metavar="JSON",
        help="ground-truth JSON of demo.camera; plays every image once and reports precision "
        "and recall",
    )
    add(
        "--live",
        action="store_true",
        help="repeat the images until Ctrl-C, to look at them in a browser; keeps none",
    )
    add("--rate", type=float, default=5.0, help="images per second (default: %(default)s)")
    add("--score-threshold", type=float, default=0.5, help="default: %(default)s")
    add("--timeout", type=float, default=180.0, help="timeout in seconds (default: %(default)s)")
    add(
        "--profile",
        type=Path,
        default=dds_profile.shipped_profile(),
        help="Fast DDS profile of all processes, unless the environment sets one",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
