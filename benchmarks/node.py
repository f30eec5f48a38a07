# SPDX-License-Identifier: Apache-2.0
"""The running node, as a robot would run it: cameras, detector and listener as processes.

    python benchmarks/node.py [--seconds 10] [--json OUT]

First the overhead of ROS: one camera, slow enough that nothing waits, and between its pictures the
bare detector in this process; medians of both from the same seconds. Then the load: 1 and 4 cameras
at 30 Hz, raw and compressed. Latency is from a picture's stamp to the arrival of its detections.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import statistics
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from tqdm import tqdm
from vision_msgs.msg import Detection2DArray

from ssd_ros import atomic, memory, transport
from ssd_ros.camera import stamp_ns
from ssd_ros.detector import Detector
from ssd_ros.images import as_array, fill_image
from ssd_ros.picture import Picture
from ssd_ros.process import child

NAMESPACE = "/benchmark"
SLOW = 4.0  # Hz, for the overhead: each picture is done before the next comes
PATIENCE = 60.0


def picture_of(size: tuple[int, int]) -> np.ndarray:
    """A picture with the structure of one: smooth areas, edges, some noise. BGR (H, W, 3)."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    large = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
    return cv2.add(large, rng.integers(0, 8, large.shape, dtype=np.uint8))


# --- the camera's process -----------------------------------------------------------------------


def publish(options: argparse.Namespace) -> None:
    """A camera that costs nothing: one message, stamped anew and sent at a steady rate."""
    rclpy.init()
    node = Node("camera", namespace=options.namespace)
    reliability = ReliabilityPolicy[options.reliability.upper()]
    qos = QoSProfile(depth=1, reliability=reliability)
    pixels = picture_of(options.size)
    if options.transport == "raw":
        message = fill_image(Image(), pixels, "bgr8")
        publisher = node.create_publisher(Image, "image_raw", qos)
    else:
        message = CompressedImage(format="bgr8; jpeg compressed bgr8")
        message.data = as_array(cv2.imencode(".jpg", pixels)[1])
        publisher = node.create_publisher(CompressedImage, "image_raw/compressed", qos)
    message.header.frame_id = "camera"

    def send() -> None:
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)

    node.create_timer(1 / options.rate, send)
    with contextlib.suppress(KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
        rclpy.spin(node)


# --- the listener: this process -----------------------------------------------------------------


@dataclass
class Heard:
    """What arrived from one camera: latencies in seconds, and the detector's counts."""

    latencies: list[float] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


class Listener(Node):
    """Takes the time of detections as they arrive."""

    def __init__(self, cameras: int) -> None:
        super().__init__("listener", namespace=NAMESPACE)
        self.heard = [Heard() for _ in range(cameras)]
        self.inference_ms = 0.0  # the node's own median
        for i, heard in enumerate(self.heard):
            self.create_subscription(
                Detection2DArray,
                f"camera{i}/detections",
                lambda message, heard=heard: self._note(message, heard),
                100,
            )
        self.create_subscription(DiagnosticArray, "/diagnostics", self._diagnose, 10)

    def _note(self, message: Detection2DArray, heard: Heard) -> None:
        now = self.get_clock().now().nanoseconds
        heard.latencies.append((now - stamp_ns(message)) * 1e-9)

    def _diagnose(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            self.inference_ms = float(values.get("inference median (ms)", self.inference_ms))
            for i, heard in enumerate(self.heard):
                if f"/camera{i}/" in status.name:
                    heard.counts = {k: int(text) for k, text in values.items() if text.isdigit()}

    def forget(self) -> None:
        for heard in self.heard:
            heard.latencies.clear()

    @property
    def superseded(self) -> int:
        return sum(heard.counts.get("superseded", 0) for heard in self.heard)


@contextlib.contextmanager
def running(
    cameras: int, size: tuple[int, int], kind: str, rate: float, options: argparse.Namespace
) -> Iterator[tuple[Listener, psutil.Process]]:
    """Cameras, detector and listener at work; the first detections have arrived."""
    topics = [f"{NAMESPACE}/camera{i}/image_raw" for i in range(cameras)]
    detector = ["-m", "ssd_ros.detector_node", "--ros-args", "-r", f"__ns:={NAMESPACE}"]
    detector += ["-p", f"image_topics:={json.dumps(topics)}", "-p", f"image_transport:={kind}"]
    detector += ["-p", f"weights:={options.weights}", "--log-level", "warn"]
    commands = [detector]
    for i in range(cameras):
        commands.append(
            [__file__, "publish", "--namespace", f"{NAMESPACE}/camera{i}", "--rate", str(rate)]
            + ["--size", "x".join(map(str, size)), "--transport", kind]
            + ["--reliability", options.reliability]
        )
    with contextlib.ExitStack() as stack:
        listener = Listener(cameras)
        stack.callback(listener.destroy_node)
        executor = SingleThreadedExecutor()
        executor.add_node(listener)
        stopping = threading.Event()

        def spin() -> None:
            while not stopping.is_set():
                executor.spin_once(timeout_sec=0.1)

        thread = threading.Thread(target=spin)
        thread.start()
        stack.callback(thread.join)
        stack.callback(stopping.set)
        processes = [stack.enter_context(child([sys.executable, *command])) for command in commands]
        deadline = time.monotonic() + PATIENCE
        while not all(heard.latencies for heard in listener.heard):
            if time.monotonic() > deadline or any(p.poll() is not None for p in processes):
                raise RuntimeError("no detections arrived from every camera")
            time.sleep(0.05)
        time.sleep(1.5)  # everything is warm, and the first diagnostics have come
        listener.forget()
        yield listener, psutil.Process(processes[0].pid)


# --- what is measured ---------------------------------------------------------------------------


@dataclass
class Overhead:
    """One camera without haste, against the bare detector; milliseconds, medians.

    Attributes:
        latency_ms: from a picture's stamp to the arrival of its detections.
        inference_ms: of that, the time that the node's own detector takes.
        detector_ms: the bare detector in the benchmark's process, just after each picture.
        overhead_ms: latency less the bare detector.
    """

    size: str
    transport: str
    latency_ms: float
    inference_ms: float
    detector_ms: float
    overhead_ms: float
    cpu_ms_per_picture: float
    bare_cpu_ms_per_picture: float


@dataclass
class Load:
    """Cameras at full rate. Rate in detections a second of each camera; CPU in cores."""

    cameras: int
    size: str
    transport: str
    rate_hz: float
    latency_ms: float
    latency_p95_ms: float
    superseded: int
    lost_percent: float
    cpu_cores: float
    memory_mb: list[float]


def overhead(size: tuple[int, int], kind: str, options: argparse.Namespace) -> Overhead:
    detector = Detector(options.weights)
    picture = Picture(picture_of(size))
    detector([picture])
    pairs: list[tuple[float, float]] = []  # of one picture: latency, and then the bare detector
    bare_cpu = 0.0
    with running(1, size, kind, SLOW, options) as (listener, process):
        latencies = listener.heard[0].latencies
        cpu = _cpu(process)
        end = time.monotonic() + options.seconds
        while time.monotonic() < end:
            if len(latencies) == len(pairs):
                time.sleep(0.001)
                continue
            latency = latencies[len(pairs)]
            time.sleep(0.06)  # the node and its OpenMP workers rest, the next picture is far
            start, start_cpu = time.perf_counter(), time.process_time()
            detector([picture])
            pairs.append((latency, time.perf_counter() - start))
            bare_cpu += time.process_time() - start_cpu
        cpu = _cpu(process) - cpu

    def milliseconds(values: Iterable[float]) -> float:
        return round(1e3 * statistics.median(values), 2)

    return Overhead(
        _name(size),
        kind,
        latency_ms=milliseconds(latency for latency, _ in pairs),
        inference_ms=listener.inference_ms,
        detector_ms=milliseconds(bare for _, bare in pairs),
        overhead_ms=milliseconds(latency - bare for latency, bare in pairs),
        cpu_ms_per_picture=round(1e3 * cpu / len(pairs), 2),
        bare_cpu_ms_per_picture=round(1e3 * bare_cpu / len(pairs), 2),
    )


def load(cameras: int, size: tuple[int, int], kind: str, options: argparse.Namespace) -> Load:
    with running(cameras, size, kind, options.rate, options) as (listener, process):
        before, cpu, start = listener.superseded, _cpu(process), time.monotonic()
        resident = []
        while time.monotonic() < start + options.seconds:
            resident.append(round(process.memory_info().rss / 2**20, 1))
            time.sleep(max(1.0, options.seconds / 10))
        seconds = time.monotonic() - start
        latencies = [value for heard in listener.heard for value in heard.latencies]
        cpu = _cpu(process) - cpu
        lost = [heard.counts.get("lost on the way (%)", 0) for heard in listener.heard]
        superseded = listener.superseded - before
    return Load(
        cameras,
        _name(size),
        kind,
        round(len(latencies) / cameras / seconds, 1),
        round(1e3 * statistics.median(latencies), 1),
        round(1e3 * statistics.quantiles(latencies, n=20)[-1], 1),
        superseded,
        statistics.mean(lost),
        round(cpu / seconds, 2),
        resident,
    )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _name(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


# --- command line -------------------------------------------------------------------------------


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


def _table(rows: Sequence[Overhead | Load]) -> str:
    columns = list(asdict(rows[0]))
    cells = [columns] + [[_cell(value) for value in asdict(row).values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )


def _cell(value: Any) -> str:
    if isinstance(value, list):  # memory over time: where it began and where it ended
        return f"{value[0]:.0f}..{value[-1]:.0f}"
    return str(value)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("command", nargs="?", choices=("run", "publish"), default="run", help=argparse.SUPPRESS)
    add("--namespace", help=argparse.SUPPRESS)
    add("--size", type=_size, help=argparse.SUPPRESS)
    add("--transport", help=argparse.SUPPRESS)
    add("--weights", default="demo", help="weights file, default: %(default)s")
    add("--seconds", type=float, default=10, help="of each measurement, default: %(default)s")
    add("--rate", type=float, default=30, help="of each camera in Hz, default: %(default)s")
    add("--cameras", type=int, nargs="+", default=[1, 4], help="default: %(default)s")
    add("--sizes", type=_size, nargs="+", default=[(640, 480), (1920, 1080)], metavar="WxH")
    add("--transports", nargs="+", default=["raw", "compressed"], choices=("raw", "compressed"))
    add("--reliability", default="best_effort", choices=("best_effort", "reliable"))
    add("--no-profile", action="store_true", help="Fast DDS as it comes, not config/fastdds.xml")
    add("--no-load", action="store_true", help="the overhead alone")
    add("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    memory.keep_for_pictures()  # camera and bare detector alike, as the node does
    if options.command == "publish":
        publish(options)
        return 0

    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if not options.no_profile:
        transport.use_profile(transport.shipped_profile())
    rclpy.init()
    pairs = list(itertools.product(options.sizes, options.transports))
    loads = [] if options.no_load else list(itertools.product(options.cameras, pairs))
    with tqdm(total=len(pairs) + len(loads), unit="measurement", disable=None) as bar:

        def counted(row: Any) -> Any:
            bar.update()
            return row

        overheads = [counted(overhead(size, kind, options)) for size, kind in pairs]
        rows = [counted(load(n, size, kind, options)) for n, (size, kind) in loads]
    rclpy.shutdown()
    print(_table(overheads))
    if rows:
        print()
        print(_table(rows))
    if options.json:
        result = {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "weights": options.weights,
            "profile": not options.no_profile,
            "overhead": [asdict(row) for row in overheads],
            "load": [asdict(row) for row in rows],
        }
        atomic.write(options.json, (json.dumps(result, indent=2) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
