# SPDX-License-Identifier: Apache-2.0
"""What viewers of the web page cost the node.

    python benchmarks/web_page.py [--rounds 5] [--seconds 4] [--json OUT]

One node, camera and listener as processes, the viewers in this one. In each round the node is
measured without a viewer, with one, and with twenty of which ten never read; so what else the
machine does falls on all alike. A second node without a page is measured in turns with the first.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import psutil
import rclpy
from measuring import Table, add_arguments, cores, report
from running_node import NAMESPACE, Camera, Listener, running, start_ros

TOPIC = f"{NAMESPACE}/camera0/image_raw"
COLUMNS = {
    "rate": "camera (Hz)",
    "viewers": "viewers",
    "rate_hz": "rate (Hz)",
    "ratio": "ratio",
    "latency_ms": "latency (ms)",
    "cpu_ms": "CPU per detection (ms)",
    "images": "images per viewer and second",
}


class Viewers:
    """Connections that receive the stream of annotated images.

    Args:
        port: of the page.
        reading: how many read what comes.
        silent: how many never read.

    Attributes:
        images: how many have arrived at those that read.
    """

    def __init__(self, port: int, reading: int, silent: int) -> None:
        self.images = 0
        self.reading = reading
        self._lock = threading.Lock()
        self._connections = [self._connect(port) for _ in range(reading + silent)]
        self._threads = [
            threading.Thread(target=self._read, args=(one,)) for one in self._connections[:reading]
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for connection in self._connections:
            connection.close()

    def _connect(self, port: int) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port))
        request = f"GET /stream{TOPIC} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
        connection.sendall(request.encode())
        return connection

    def _read(self, connection: socket.socket) -> None:
        buffer = bytearray(2**20)
        with contextlib.suppress(OSError):
            while count := connection.recv_into(buffer):
                found = buffer.count(b"Content-Length", 0, count)
                with self._lock:
                    self.images += found


@dataclass(frozen=True)
class Measured:
    """One measurement: detections per second, median latency and the node's CPU time."""

    rate_hz: float
    latency_ms: float
    cpu_ms: float
    images: float = 0.0


def measure(
    listener: Listener,
    node: subprocess.Popen[bytes],
    seconds: float,
    viewers: Viewers | None = None,
) -> Measured:
    """The node for so many seconds, with viewers that are connected already."""
    time.sleep(0.7)  # the first images have come
    process = psutil.Process(node.pid)
    seen = viewers.images if viewers else 0
    listener.forget()
    begin, cpu = time.monotonic(), _cpu(process)
    time.sleep(seconds)
    latencies = list(listener.heard[0].latencies)
    passed, cpu = time.monotonic() - begin, _cpu(process) - cpu
    each = (viewers.images - seen) / max(viewers.reading, 1) / passed if viewers else 0.0
    latency = 1e3 * statistics.median(latencies)
    return Measured(len(latencies) / passed, latency, 1e3 * cpu / len(latencies), each)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def with_viewers(rate: float, options: argparse.Namespace) -> list[dict[str, object]]:
    """One camera's rows, for each number of viewers."""
    kinds = {"0": (0, 0), "1": (1, 0), "20, ten of them never read": (10, 10)}
    measured: dict[str, list[Measured]] = {name: [] for name in kinds}
    port = _free_port()
    camera = Camera(options.size, rate=rate)
    with running([camera], options.weights, web_port=port) as (listener, node):
        for _ in range(options.rounds):
            for name, (reading, silent) in kinds.items():
                viewers = Viewers(port, reading, silent)
                try:
                    measured[name].append(measure(listener, node, options.seconds, viewers))
                finally:
                    viewers.close()
                time.sleep(2.5)  # until the node has noticed that they are gone
    return _rows(rate, measured)


def without_page(rate: float, options: argparse.Namespace) -> list[dict[str, object]]:
    """The same camera's rows for a node with a page and no viewer, and for one without a page."""
    kinds = {"no page": 0, "page without a viewer": _free_port()}
    measured: dict[str, list[Measured]] = {name: [] for name in kinds}
    for _ in range(options.rounds):
        for name, port in kinds.items():
            camera = Camera(options.size, rate=rate)
            with running([camera], options.weights, web_port=port) as (listener, node):
                measured[name].append(measure(listener, node, options.seconds))
    return _rows(rate, measured)


def _rows(rate: float, measured: dict[str, list[Measured]]) -> list[dict[str, object]]:
    """Medians; the ratio is the median of those of each round to its first kind."""
    first = next(iter(measured.values()))
    rows: list[dict[str, object]] = []
    for name, values in measured.items():
        pairs = zip(values, first, strict=True)
        ratio = statistics.median(one.rate_hz / base.rate_hz for one, base in pairs)
        row: dict[str, object] = {"rate": rate, "viewers": name, "ratio": round(ratio, 3)}
        for column in ("rate_hz", "latency_ms", "cpu_ms", "images"):
            row[column] = round(statistics.median(getattr(one, column) for one in values), 2)
        rows.append(row)
    return rows


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add_arguments(parser)
    add("--weights", default="demo", help="weights file, default: %(default)s")
    add("--rounds", type=int, default=5, help="default: %(default)s")
    add("--seconds", type=float, default=4, help="of each measurement, default: %(default)s")
    add("--rates", type=float, nargs="+", default=[20.0, 200.0], help="of the camera, in Hz")
    options = parser.parse_args()
    options.size = (640, 480)
    if options.quick:
        options.rounds, options.seconds, options.rates = 1, 1.0, options.rates[:1]
    start_ros(profile=True)
    rows = [row for rate in options.rates for row in with_viewers(rate, options)]
    rows += [row for rate in options.rates for row in without_page(rate, options)]
    rclpy.shutdown()
    text = (
        f"Camera of 640x480, node and viewers on {cores()} cores. *Rate* is that of detections, "
        "*ratio* that to the first row of the same camera, *latency* from an image's stamp to the "
        f"reception of its detections. Medians of {options.rounds} rounds of {options.seconds:g} s."
    )
    report(options, [Table("Viewers of the web page", text, COLUMNS, rows)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
