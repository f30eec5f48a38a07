# SPDX-License-Identifier: Apache-2.0
"""Entry points of `ros2 run ssd_ros …`, which import the nodes only once signals are handled.

Importing takes seconds, in which Ctrl-C would print the imports' call stack.
"""

from __future__ import annotations

import importlib
import sys

from ssd_ros import command_line, python_environment
from ssd_ros.ros import signals


def detector() -> int:
    """Entry point of `ros2 run ssd_ros detector`."""
    return _run("detector")


def image_source() -> int:
    """Entry point of `ros2 run ssd_ros image_source`."""
    return _run("image_source")


def _run(name: str) -> int:
    command_line.explain_ends()  # also where it was not started by `python -m`
    signals.install()
    arguments = sys.argv[1:]
    # What follows --ros-args is rclpy's.
    if {"-h", "--help"} & set(arguments[: (*arguments, "--ros-args").index("--ros-args")]):
        print(_usage(name))
        return 0
    try:
        node = importlib.import_module(f"ssd_ros.ros.{name}_node")
    except ImportError as error:
        print(f"{name}: {python_environment.explain(error)}", file=sys.stderr)
        return 1
    return int(node.main())


def _usage(name: str) -> str:
    """What the node does and its parameters."""
    table = importlib.import_module("ssd_ros.ros.parameter_table")
    about, specs = {
        "detector": ("Detects objects in the images of camera topics.", table.DETECTOR),
        "image_source": ("Publishes images, a video or a camera as a topic.", table.IMAGE_SOURCE),
    }[name]
    lines = [
        f"usage: ros2 run ssd_ros {name} [--ros-args -p NAME:=VALUE -r FROM:=TO ...]",
        "",
        about,
        "",
        "Parameters (default):",
    ]
    for parameter, spec in specs.items():
        lines.append(f"  {parameter} ({spec.default!r}): {spec.described}")
    return "\n".join(lines)
