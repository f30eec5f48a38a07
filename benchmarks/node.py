# SPDX-License-Identifier: Apache-2.0
"""The running node, as a robot would run it: cameras, detector and listener as processes.

    python benchmarks/node.py [--seconds 10] [--device cuda] [--json OUT | --save DIR]

First the overhead of ROS: one camera, slow enough that nothing waits, and between its images the
bare detector in this process; medians of both from the same seconds. Then the load: 1 and 4 cameras
at 30 Hz, raw and compressed. Last, networks of other widths (networks.py), with ranges for int8
and without, with the same cameras, 640x480 raw. Latency is from an image's stamp to the arrival
of its detections.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rclpy
from camera import RELIABILITIES, TRANSPORTS, parse_size
from images import SIZE, image_of
from measuring import Table, add_arguments, cores, report
from networks import write_weights
from running_node import ALL, Camera, Cores, running, start_ros
from tqdm import tqdm

from ssd_ros.backends.backend import BackendOptions
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
    """Cameras at full rate. Rate in detections a second of each camera; CPU in cores.

    Attributes:
        answered_percent: detections of all images that the cameras were to send.
        superseded: images that a newer one replaced.
        memory_mb: resident memory of the node at the beginning and at the end.
    """

    weights: str
    cameras: int
    size: str
    transport: str
    answered_percent: float
    rate_hz: float
    latency_ms: float | None
    latency_p95_ms: float | None
    superseded: int
    lost_percent: float
    cpu_cores: float
    memory_mb: str


OVERHEAD_COLUMNS = {
    "size": "image",
    "transport": "transport",
    "latency_ms": "latency (ms)",
    "detector_ms": "bare detector (ms)",
    "overhead_ms": "overhead (ms)",
    "cpu_ms_per_image": "CPU per image (ms)",
    "bare_cpu_ms_per_image": "CPU of the bare detector (ms)",
}
LOAD_COLUMNS = {
    "weights": "weights",
    "cameras": "cameras",
    "size": "image",
    "transport": "transport",
    "answered_percent": "answered (%)",
    "rate_hz": "rate (Hz)",
    "latency_ms": "latency (ms)",
    "latency_p95_ms": "p95 (ms)",
    "lost_percent": "lost (%)",
    "cpu_cores": "CPU (cores)",
    "memory_mb": "memory (MB)",
}


def overhead(size: tuple[int, int], kind: str, options: argparse.Namespace) -> Overhead:
    detector = Detector(options.weights, BackendOptions(device=options.device))
    image = Image(image_of(size))
    detector([image])
    pairs: list[tuple[float, float]] = []  # of one image: latency, and then the bare detector
    bare_cpu = 0.0
    camera = Camera(size, kind, SLOW, options.reliability)
    with running([camera], options.weights, device=options.device) as (listener, node):
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


def load(
    cameras: int,
    camera: Camera,
    weights: str,
    seconds: float,
    placing: Cores = ALL,
    **parameters: Any,
) -> Load:
    with running([camera] * cameras, weights, placing, **parameters) as (listener, node):

        def superseded() -> int:
            return sum(heard.count("superseded") for heard in listener.heard)

        process = psutil.Process(node.pid)
        before, cpu, start = superseded(), _cpu(process), time.monotonic()
        resident = []
        while time.monotonic() < start + seconds:
            resident.append(round(process.memory_info().rss / 1e6, 1))
            time.sleep(max(1.0, seconds / 10))
        seconds = time.monotonic() - start
        latencies = [value for heard in listener.heard for value in heard.latencies]
        cpu = _cpu(process) - cpu
        lost = [heard.count("lost on the way (%)") for heard in listener.heard]
        missed = superseded() - before
    rate = len(latencies) / cameras / seconds
    return Load(
        weights=Path(weights).stem,
        cameras=cameras,
        size=_name(camera.size),
        transport=camera.transport,
        answered_percent=min(100.0, round(100 * rate / camera.rate, 1)),
        rate_hz=round(rate, 1),
        latency_ms=_percentile(latencies, 50),
        latency_p95_ms=_percentile(latencies, 95),
        superseded=missed,
        lost_percent=statistics.mean(lost),
        cpu_cores=round(cpu / seconds, 2),
        memory_mb=f"{resident[0]:.0f} to {resident[-1]:.0f}",
    )


def _percentile(seconds: Sequence[float], percent: float) -> float | None:
    """In milliseconds; None of nothing."""
    return round(1e3 * float(np.percentile(seconds, percent)), 1) if seconds else None


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _name(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


# --- command line -------------------------------------------------------------------------------


def tables(
    overheads: Sequence[Overhead], loads: Sequence[Load], options: argparse.Namespace
) -> list[Table]:
    profile = "Fast DDS's own settings" if options.no_profile else "config/fastdds.xml"
    common = (
        f"Cameras, node and subscriber in separate processes on {cores()} cores, with {profile}. "
        "*Latency* is from an image's stamp to the reception of its detections."
    )
    result = []
    if overheads:
        text = (
            f"{common} One camera at {SLOW:g} Hz, weights {options.weights}. *Bare detector* is "
            "the time of `Detector` in the benchmark's process after each image, *overhead* the "
            "difference for each image. Medians."
        )
        rows = [asdict(row) for row in overheads]
        result.append(Table("Latency of the node", text, OVERHEAD_COLUMNS, rows))
    if loads:
        text = (
            f"{common} Cameras at {options.rate:g} Hz. *Answered* is the share of their images "
            "with detections; the others were superseded by a newer one, or *lost* in transport. "
            f"Rate per camera; {options.seconds:g} s each."
        )
        rows = [asdict(row) for row in loads]
        result.append(Table("The node under load", text, LOAD_COLUMNS, rows))
    return result


def plan(folder: Path, options: argparse.Namespace) -> list[tuple[int, Camera, str]]:
    """The arguments of every `load`: cameras, what one sends, weights."""
    if options.no_load:
        return []
    kinds = itertools.product(options.cameras, options.sizes, options.transports)
    loads = [(n, (size, kind), options.weights) for n, size, kind in kinds]
    precisions = (False, True) if options.device == "cpu" else (False,)  # a GPU runs no int8
    for width, int8 in itertools.product(options.widths, precisions):
        path = str(write_weights(folder, width, int8))
        loads += [(n, (SIZE, "raw"), path) for n in options.cameras]
    return [
        (n, Camera(*camera, options.rate, options.reliability), path) for n, camera, path in loads
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add_arguments(parser, device="cpu")
    add("--weights", default="demo", help="weights file, default: %(default)s")
    add("--seconds", type=float, default=10, help="of each measurement, default: %(default)s")
    add("--rate", type=float, default=30, help="of each camera in Hz, default: %(default)s")
    add("--cameras", type=int, nargs="+", default=[1, 4], help="default: %(default)s")
    add("--widths", type=float, nargs="*", default=[0.5, 1.0], help="default: %(default)s")
    add("--sizes", type=parse_size, nargs="+", default=[(640, 480), (1920, 1080)], metavar="WxH")
    add("--transports", nargs="+", default=TRANSPORTS, choices=TRANSPORTS)
    add("--reliability", default="best_effort", choices=RELIABILITIES)
    add("--no-profile", action="store_true", help="Fast DDS as it comes, not config/fastdds.xml")
    add("--no-load", action="store_true", help="the overhead alone")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.cameras, options.widths = 1.5, [1], []
        options.sizes, options.transports = options.sizes[:1], options.transports[:1]
    start_ros(profile=not options.no_profile)
    pairs = list(itertools.product(options.sizes, options.transports))
    with tempfile.TemporaryDirectory() as folder:
        loads = plan(Path(folder), options)
        with tqdm(total=len(pairs) + len(loads), unit="measurement", disable=None) as bar:

            def counted(row: Any) -> Any:
                bar.update()
                return row

            overheads = [counted(overhead(size, kind, options)) for size, kind in pairs]
            rows = [counted(load(*what, options.seconds, device=options.device)) for what in loads]
    rclpy.shutdown()
    report(options, tables(overheads, rows, options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
