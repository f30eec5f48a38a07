# SPDX-License-Identifier: Apache-2.0
"""The running node, as a robot would run it: cameras, detector and listener as processes.

    python benchmarks/node.py [--seconds 10] [--json OUT]

First the overhead of ROS: one camera, slow enough that nothing waits, and between its images the
bare detector in this process; medians of both from the same seconds. Then the load: 1 and 4 cameras
at 30 Hz, raw and compressed. Latency is from an image's stamp to the arrival of its detections.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import rclpy
from camera import RELIABILITIES, TRANSPORTS, image_of, parse_size
from running_node import Camera, running, start_ros
from tqdm import tqdm

from ssd_ros import atomic
from ssd_ros.detector import Detector
from ssd_ros.image import Image

SLOW = 4.0  # Hz, for the overhead: each image is done before the next comes


# --- what is measured ---------------------------------------------------------------------------


@dataclass
class Overhead:
    """One camera without haste, against the bare detector; milliseconds, medians.

    Attributes:
        latency_ms: from an image's stamp to the arrival of its detections.
        inference_ms: of that, the time that the node's own detector takes.
        detector_ms: the bare detector in the benchmark's process, just after each image.
        overhead_ms: latency less the bare detector.
    """

    size: str
    transport: str
    latency_ms: float
    inference_ms: float
    detector_ms: float
    overhead_ms: float
    cpu_ms_per_image: float
    bare_cpu_ms_per_image: float


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
    image = Image(image_of(size))
    detector([image])
    pairs: list[tuple[float, float]] = []  # of one image: latency, and then the bare detector
    bare_cpu = 0.0
    camera = Camera(size, kind, SLOW, options.reliability)
    with running([camera], options.weights) as (listener, node):
        process = psutil.Process(node.pid)
        latencies = listener.heard[0].latencies
        cpu = _cpu(process)
        end = time.monotonic() + options.seconds
        while time.monotonic() < end:
            if len(latencies) == len(pairs):
                time.sleep(0.001)
                continue
            latency = latencies[len(pairs)]
            time.sleep(0.06)  # the node and its OpenMP workers rest, the next image is far
            start, start_cpu = time.perf_counter(), time.process_time()
            detector([image])
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
        cpu_ms_per_image=round(1e3 * cpu / len(pairs), 2),
        bare_cpu_ms_per_image=round(1e3 * bare_cpu / len(pairs), 2),
    )


def load(cameras: int, size: tuple[int, int], kind: str, options: argparse.Namespace) -> Load:
    camera = Camera(size, kind, options.rate, options.reliability)
    with running([camera] * cameras, options.weights) as (listener, node):

        def superseded() -> int:
            return sum(heard.count("superseded") for heard in listener.heard)

        process = psutil.Process(node.pid)
        before, cpu, start = superseded(), _cpu(process), time.monotonic()
        resident = []
        while time.monotonic() < start + options.seconds:
            resident.append(round(process.memory_info().rss / 2**20, 1))
            time.sleep(max(1.0, options.seconds / 10))
        seconds = time.monotonic() - start
        latencies = [value for heard in listener.heard for value in heard.latencies]
        cpu = _cpu(process) - cpu
        lost = [heard.count("lost on the way (%)") for heard in listener.heard]
        missed = superseded() - before
    return Load(
        cameras,
        _name(size),
        kind,
        round(len(latencies) / cameras / seconds, 1),
        round(1e3 * statistics.median(latencies), 1),
        round(1e3 * statistics.quantiles(latencies, n=20)[-1], 1),
        missed,
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
    add("--weights", default="demo", help="weights file, default: %(default)s")
    add("--seconds", type=float, default=10, help="of each measurement, default: %(default)s")
    add("--rate", type=float, default=30, help="of each camera in Hz, default: %(default)s")
    add("--cameras", type=int, nargs="+", default=[1, 4], help="default: %(default)s")
    add("--sizes", type=parse_size, nargs="+", default=[(640, 480), (1920, 1080)], metavar="WxH")
    add("--transports", nargs="+", default=TRANSPORTS, choices=TRANSPORTS)
    add("--reliability", default="best_effort", choices=RELIABILITIES)
    add("--no-profile", action="store_true", help="Fast DDS as it comes, not config/fastdds.xml")
    add("--no-load", action="store_true", help="the overhead alone")
    add("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    start_ros(profile=not options.no_profile)
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
