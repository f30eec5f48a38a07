# SPDX-License-Identifier: Apache-2.0
"""Looks for what keeps detections away, and says how to fix it: `python -m ssd_ros.doctor`."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ssd_ros import __version__, atomic
from ssd_ros.doctor import libraries, python_environment
from ssd_ros.doctor.finding import FAIL, Finding, Section, as_json, as_text, worst


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if nothing is a FAIL, else 1."""
    options = _parser().parse_args(_without_ros(sys.argv[1:] if arguments is None else arguments))
    shown = sys.stderr if options.json == atomic.STANDARD_OUTPUT else sys.stdout
    sections = []
    for section in look(options):
        sections.append(section)
        print(f"{as_text(section)}\n", file=shown, flush=True)
    level = worst(sections)
    print(f"ssd_ros {__version__}: {level}", file=shown)
    if options.json:
        text = json.dumps({"version": __version__, **as_json(sections)}, indent=1)
        try:
            atomic.write(options.json, f"{text}\n".encode())
        except OSError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 1 if level == FAIL else 0


def look(options: argparse.Namespace) -> Iterator[Section]:
    """Each section once it is known. A check that fails is a finding, not the end."""
    python = python_environment.probe()
    yield Section("Python and ROS", _guarded(lambda: python_environment.judge(python)))
    facts = libraries.probe()
    yield Section("Libraries", _guarded(lambda: libraries.judge(facts)))
    if facts.errors:  # nothing else can be loaded
        return
    yield Section("Engines", _guarded(lambda: _engines()))
    yield Section("Weights", _guarded(lambda: _weights(options.weights)))
    if python.rclpy_error:
        return
    yield Section("ROS environment", _guarded(lambda: _ros_environment()))
    if options.seconds:
        yield from _graph(options)


def _guarded(check: Callable[[], Sequence[Finding]]) -> Sequence[Finding]:
    try:
        return check()
    except Exception as error:  # of whatever is broken here
        text = f"this could not be checked: {type(error).__name__}: {error}"
        return [Finding(FAIL, text, "correct what is above first; else report it")]


# What needs libraries is imported only once they are known to load.


def _engines() -> Sequence[Finding]:
    from ssd_ros.doctor import engines

    return engines.judge(engines.probe())


def _weights(name: str) -> Sequence[Finding]:
    from ssd_ros.doctor import weights_file

    return weights_file.judge(name)


def _ros_environment() -> Sequence[Finding]:
    from ssd_ros.doctor import ros_environment

    return ros_environment.judge(ros_environment.probe())


def _graph(options: argparse.Namespace) -> Sequence[Section]:
    try:
        from ssd_ros.doctor import graph, multicast
        from ssd_ros.ros.graph_probe import probe

        # In another process, which some errors of the middleware end, and whose standard output
        # is the one for errors: Fast DDS writes there.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawn, os.dup2, (2, 1)) as pool:
            snapshot = pool.submit(probe, options.seconds, options.topics).result()
        return graph.judge(snapshot, os.environ, multicast.probe())
    except ValueError as error:  # of an argument
        fix = "name topics as `ros2 topic list` does"
        return [Section("ROS graph", [Finding(FAIL, str(error), fix)])]
    except Exception as error:
        text = f"no ROS node can be made: {type(error).__name__}: {error}"
        fix = "check RMW_IMPLEMENTATION, ROS_DOMAIN_ID and the Fast DDS profile"
        return [Section("ROS graph", [Finding(FAIL, text, fix)])]


def _without_ros(arguments: Sequence[str]) -> list[str]:
    """The arguments without those of `--ros-args`, which a launch file adds."""
    return list(arguments[: (*arguments, "--ros-args").index("--ros-args")])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ssd_ros.doctor", description=__doc__)
    add = parser.add_argument
    add(
        "topics", nargs="*", metavar="TOPIC", help="image topics to check (default: all that exist)"
    )
    add("--weights", default="coco", help="weights to check (default: %(default)s)")
    add(
        "--seconds",
        type=float,
        default=5.0,
        help="how long to listen to the ROS graph; 0 leaves it out (default: %(default)s)",
    )
    add("--json", type=Path, metavar="FILE", help="also write the findings; - is standard output")
    return parser


if __name__ == "__main__":
    sys.exit(main())
