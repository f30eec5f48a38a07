# SPDX-License-Identifier: Apache-2.0
"""The whole path in one command: image source, detector and a listener as three processes."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import Image as ImageMsg
from torchvision.ops import box_iou
from vision_msgs.msg import Detection2D, Detection2DArray

from ssd_ros.io import image_files
from ssd_ros.messages.images import image_from_msg
from ssd_ros.ros import dds_profile, process
from ssd_ros.weights import names, reader

LAST_WORDS = 2.0  # seconds that are waited for answers when the camera has ended
ROW = "{:>5}  {:<16} {:>5}  {:>24}  {:>10}"


class Listener(Node):
    """Prints detections as they arrive and keeps the annotated images.

    Args:
        out: folder for the annotated images.
        all_frames: hear the camera itself, too, to know which frame of all a detection is about.
    """

    def __init__(self, out: Path, all_frames: bool) -> None:
        super().__init__("demo_listener")
        self._out = out
        self._stamps: dict[tuple[int, int], int] = {}  # stamp of a frame -> its number, from 1
        self.latencies: list[float] = []
        self.found: dict[int, list[Found]] = {}  # number of a frame -> what was found in it
        self.drawn = 0
        self.failure = ""
        self.create_subscription(Detection2DArray, "detections", self._on_detections, 10)
        self.create_subscription(ImageMsg, "detections_image", self._on_image, 10)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        if all_frames:
            self.create_subscription(ImageMsg, "image_raw", self._on_frame, 100)

    @property
    def detections(self) -> int:
        return sum(map(len, self.found.values()))

    def _on_frame(self, message: ImageMsg) -> None:
        self._number(message.header.stamp)

    def _number(self, stamp: object) -> int:
        key = (stamp.sec, stamp.nanosec)  # type: ignore[attr-defined]
        return self._stamps.setdefault(key, len(self._stamps) + 1)

    def _on_detections(self, message: Detection2DArray) -> None:
        stamp = Time.from_msg(message.header.stamp, clock_type=self.get_clock().clock_type)
        latency = (self.get_clock().now() - stamp).nanoseconds * 1e-6
        self.latencies.append(latency)
        number = self._number(message.header.stamp)
        self.found[number] = [_found(detection) for detection in message.detections]
        rows = [_row(number, found, latency) for found in self.found[number]]
        print("\n".join(rows or [_row(number, None, latency)]), flush=True)

    def _on_image(self, message: ImageMsg) -> None:
        number = self._number(message.header.stamp)
        pixels = image_from_msg(message).pixels
        image_files.write(self._out / f"frame_{number:03}.jpg", np.ascontiguousarray(pixels))
        self.drawn += 1

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        errors = [s.message for s in message.status if s.level == DiagnosticStatus.ERROR]
        self.failure = errors[0] if errors else ""


@dataclass(frozen=True)
class Found:
    """An object that was found, or that is there. Box x1 y1 x2 y2 in pixels."""

    name: str
    box: tuple[float, ...]
    score: float = 1.0
    difficult: bool = False


def _found(detection: Detection2D) -> Found:
    box, best = detection.bbox, detection.results[0].hypothesis
    x, y = box.center.position.x, box.center.position.y
    corners = (x - box.size_x / 2, y - box.size_y / 2, x + box.size_x / 2, y + box.size_y / 2)
    return Found(best.class_id, corners, best.score)


def _row(number: int, found: Found | None, latency: float) -> str:
    if found is None:
        return ROW.format(number, "(nothing)", "", "", f"{latency:.0f} ms")
    x1, y1, x2, y2 = found.box
    place = f"{x1:.0f},{y1:.0f} {x2 - x1:.0f}x{y2 - y1:.0f}"
    return ROW.format(number, found.name, f"{found.score:.2f}", place, f"{latency:.0f} ms")


def agreement(found: Sequence[Found], there: Sequence[Found]) -> tuple[int, int, int]:
    """How the detections of a frame agree with what is there, at an IoU of 0.5.

    Each detection, best first, claims the object of its class that it overlaps most. Difficult
    objects and detections of them are not counted.

    Returns:
        True positives, counted detections, counted objects.
    """
    right, counted, claimed = 0, 0, set()
    for detection in sorted(found, key=lambda item: -item.score):
        same = [i for i, item in enumerate(there) if item.name == detection.name]
        boxes = torch.tensor([there[i].box for i in same]).view(-1, 4)
        overlaps = box_iou(torch.tensor([detection.box]), boxes)[0].tolist()
        overlap, best = max(zip(overlaps, same, strict=True), default=(0.0, -1))
        if overlap >= 0.5 and there[best].difficult:
            continue
        counted += 1
        if overlap >= 0.5 and best not in claimed:
            claimed.add(best)
            right += 1
    return right, counted, sum(not item.difficult for item in there)


def read_truth(file: Path) -> list[list[Found]]:
    """What is there in each frame, in the order of the files' names.

    Raises:
        ValueError, OSError: the file cannot be read.
    """
    try:
        frames = sorted(json.loads(file.read_text()), key=lambda frame: frame["file"])
        return [
            [
                Found(item["class"], tuple(item["box"]), difficult=item["difficult"])
                for item in frame["objects"]
            ]
            for frame in frames
        ]
    except (KeyError, TypeError, ValueError) as error:
        reason = f"truth '{file}' is not as demo.camera writes it: {error!r}"
        raise ValueError(reason) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 only where detections arrived from the running node."""
    options = _parser().parse_args(arguments)
    try:
        reader.read(options.weights)  # before two processes are started to find out
        image_files.find([options.images])
        truth = read_truth(options.truth) if options.truth else None
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    dds_profile.apply_profile(options.profile)

    options.out.mkdir(parents=True, exist_ok=True)
    for old in options.out.glob("frame_*.jpg"):
        old.unlink()
    rclpy.init()
    listener = Listener(options.out, all_frames=truth is not None)
    start = time.monotonic()
    print(f"starting the detector and a camera showing '{options.images}' …", flush=True)
    print(ROW.format("frame", "class", "score", "box (x,y wxh in pixels)", "latency"), flush=True)
    _listen(listener, options, once=truth is not None)
    listener.destroy_node()
    rclpy.try_shutdown()

    if not listener.detections:
        print(f"demo: no detections in {time.monotonic() - start:.0f} s", file=sys.stderr)
        for log in ("detector.log", "image_source.log"):
            print(f"--- {log}\n{(options.out / log).read_text()}", file=sys.stderr)
        return 1
    if truth is not None:
        counts = [agreement(found, truth[number - 1]) for number, found in listener.found.items()]
        right, counted, there = map(sum, zip(*counts, strict=True))
        print(
            f"demo: precision {right / max(counted, 1):.2f}, recall {right / max(there, 1):.2f} "
            f"on {there} objects in {len(counts)} of {len(truth)} frames (IoU 0.5)"
        )
    print(
        f"demo: {listener.detections} detections in {len(listener.found)} frames, "
        f"latency {statistics.median(listener.latencies):.0f} ms median; "
        f"{listener.drawn} annotated images in '{options.out}'"
    )
    return 0


def _listen(listener: Listener, options: argparse.Namespace, once: bool) -> None:
    """Runs the two nodes until enough was heard, nothing more comes, or something is wrong."""
    parameters = {"weights": options.weights, "score_threshold": options.score_threshold}
    camera = {"source": options.images, "rate": options.rate}
    if once:  # from the first frame to the last, with the detector and the listener there
        camera |= {"loop": False, "wait_for_subscribers": 2}
    end = time.monotonic() + options.timeout
    with (
        _node("detector_node", parameters, options.out / "detector.log") as detector,
        _node("image_source_node", camera, options.out / "image_source.log") as source,
    ):
        while time.monotonic() < end and not listener.failure and detector.poll() is None:
            rclpy.spin_once(listener, timeout_sec=0.2)
            if not once and min(len(listener.found), listener.drawn) >= options.frames:
                break
            if source.poll() is not None:  # what it sent last may still be on its way
                end = min(end, time.monotonic() + LAST_WORDS)


@contextmanager
def _node(
    module: str, parameters: dict[str, object], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """One of this package's nodes in a process of its own."""
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
        description="Shows images to the detector node as a camera would, over ROS 2, and prints "
        "what it finds.",
    )
    add = parser.add_argument
    add("--weights", default=names.DEMO, help="weights file (default: the demo's objects)")
    add("--images", required=True, help="folder of images, or a video file")
    add("--out", type=Path, default=Path("demo_out"), help="folder for annotated images and logs")
    add("--frames", type=int, default=20, help="stop after so many (default: %(default)s)")
    add(
        "--truth",
        type=Path,
        metavar="JSON",
        help="what is there in the images, as demo.camera writes it: play each of them "
        "once, and end with precision and recall",
    )
    add("--rate", type=float, default=5.0, help="images a second (default: %(default)s)")
    add("--score-threshold", type=float, default=0.5, help="default: %(default)s")
    add("--timeout", type=float, default=180.0, help="give up after so many seconds")
    add(
        "--profile",
        type=Path,
        default=dds_profile.shipped_profile(),
        help="Fast DDS profile for both sides, where the environment names none",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
