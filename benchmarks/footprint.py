# SPDX-License-Identifier: Apache-2.0
"""The node's start-up and memory with one camera of 640x480 at 30 Hz.

    python benchmarks/footprint.py [--repeats 3] [--with-pytorch] [--json OUT]

As on a robot, PyTorch is hidden from the node's process, unless --with-pytorch is given, and the
Fast DDS profile is the camera's alone: in the node it would be 67 MB more for images it does not
send. Start-up is from the start of the process until the detections of a first image arrive in
another process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import rclpy
from measuring import Table, add_arguments, report
from networks import write_weights
from running_node import NAMESPACE, Camera, detector_command, listening, start_ros, wait_for
from tqdm import tqdm

from ssd_ros.ros import dds_profile
from ssd_ros.ros.process import child

COLUMNS = {
    "weights": "weights",
    "start_s": "start-up (s)",
    "resident_mb": "resident (MB)",
    "own_mb": "of that not shared (MB)",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add_arguments(parser)
    add("--repeats", type=int, default=3, help="starts of each node, default: %(default)s")
    add("--seconds", type=float, default=5, help="of work before memory is read, default: 5")
    add("--with-pytorch", action="store_true", help="as on a desk, where it is installed")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.seconds = 1, 1
    start_ros(profile=True)
    with tempfile.TemporaryDirectory() as folder:
        weights = {"bundled, `width` 0.25": "demo"}
        if not options.quick:
            weights["20 classes, `width` 1"] = str(write_weights(Path(folder), 1.0))
        rows = []
        with tqdm(total=len(weights) * options.repeats, unit="start", disable=None) as bar:
            for name, path in weights.items():
                runs = []
                for _ in range(options.repeats):
                    runs.append(start(path, options))
                    bar.update()
                medians = map(statistics.median, zip(*runs, strict=True))
                rows.append(dict(zip(COLUMNS, (name, *medians), strict=True)))
    rclpy.shutdown()
    hidden = "can be imported" if options.with_pytorch else "cannot be imported"
    text = (
        "From the start of the process to the first detections in another process, and memory "
        f"after {options.seconds:g} s with one camera of 640×480 at 30 Hz. Medians of "
        f"{options.repeats} starts, files in the page cache. PyTorch {hidden} in the process; the "
        "Fast DDS profile, which adds 67 MB, is set for the camera only."
    )
    report(options, [Table("Start-up and memory of the node", text, COLUMNS, rows)])
    return 0


def start(weights: str, options: argparse.Namespace) -> tuple[float, float, float]:
    """Seconds to the first detections, and the process's memory in MB: resident, its own."""
    camera = Camera()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listening(1))
        command = camera.command(f"{NAMESPACE}/camera0")
        source = stack.enter_context(child(command, stdout=subprocess.PIPE))
        assert source.stdout is not None
        source.stdout.readline()  # it publishes
        command = detector_command(1, camera.transport, weights, {}, options.with_pytorch)
        began = time.time()  # the clock of the stamps
        without_profile = {
            k: v for k, v in os.environ.items() if k not in dds_profile.PROFILE_VARIABLES
        }
        node = stack.enter_context(child(command, env=without_profile))
        heard = listener.heard[0]

        def answered() -> bool:
            if node.poll() is not None:
                raise RuntimeError(f"the node ended with exit code {node.returncode}")
            return bool(heard.latencies)

        wait_for(answered, "the first detections")
        took = heard.stamps[0] + heard.latencies[0] - began
        time.sleep(options.seconds)
        memory = psutil.Process(node.pid).memory_full_info()
    return took, memory.rss / 1e6, memory.uss / 1e6


if __name__ == "__main__":
    sys.exit(main())
