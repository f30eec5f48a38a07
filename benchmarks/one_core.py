# SPDX-License-Identifier: Apache-2.0
"""The node on one core of a processor, as on a robot whose other cores do other work.

    python benchmarks/one_core.py [--weights demo] [--seconds 30] [--json OUT]

The node may use the first core only, and its network one thread; camera and listener have the other
cores. Each of the weights is measured with raw and with compressed images.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from dataclasses import asdict

import rclpy
from camera import TRANSPORTS, parse_size
from measuring import Table, add_arguments, report
from node import LOAD_COLUMNS, load
from running_node import Camera, Cores, start_ros
from tqdm import tqdm


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add_arguments(parser)
    add("--weights", nargs="+", default=["demo"], help="weights files, default: demo")
    add("--seconds", type=float, default=30, help="of each measurement, default: %(default)s")
    add("--rate", type=float, default=30, help="of the camera in Hz, default: %(default)s")
    add("--size", type=parse_size, default=(640, 480), metavar="WxH", help="default: 640x480")
    options = parser.parse_args()
    if options.quick:
        options.seconds = 1.5
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        parser.error("needs a second core, for the camera")
    placing = Cores(frozenset({first}), frozenset(others))
    start_ros(profile=True)
    runs = list(itertools.product(options.weights, TRANSPORTS))
    rows = []
    for weights, transport in tqdm(runs, unit="measurement", disable=None):
        camera = Camera(options.size, transport, options.rate)
        rows.append(load(1, camera, weights, options.seconds, placing, threads=1))
    rclpy.shutdown()
    text = (
        f"One camera at {options.rate:g} Hz, {options.seconds:g} s each. The node has one core and "
        "`threads` 1, camera and subscriber the others. *Answered* is the share of the images with "
        "detections."
    )
    table = Table("The node on one core", text, LOAD_COLUMNS, [asdict(row) for row in rows])
    report(options, [table])
    return 0


if __name__ == "__main__":
    sys.exit(main())
