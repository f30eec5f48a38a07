# SPDX-License-Identifier: Apache-2.0
"""Opens RViz in the frame of the images, which is known once detections arrive."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import rclpy
from ament_index_python.packages import get_package_prefix
from rclpy.executors import ExternalShutdownException
from vision_msgs.msg import Detection2DArray

DETECTIONS = "/detections"  # beside the topics of config/detector.rviz, and remapped as those are
WAIT = 10.0  # seconds until RViz opens all the same, in the frame of its file


def first_frame(timeout: float) -> str:
    """The frame_id of the first detections; empty if none arrive in time.

    Args:
        timeout: seconds.

    Raises:
        KeyboardInterrupt, ExternalShutdownException: the process is to end.
    """
    node, frames = rclpy.create_node("open_rviz"), list[str]()
    try:
        subscription = node.create_subscription(
            Detection2DArray, DETECTIONS, lambda message: frames.append(message.header.frame_id), 1
        )
        node.get_logger().info(
            f"RViz opens in the frame of the detections on '{subscription.topic_name}', "
            f"after {timeout:g} s without any in that of its file"
        )
        deadline = time.monotonic() + timeout
        while not frames and time.monotonic() < deadline:
            rclpy.spin_once(node, timeout_sec=0.1)
        return frames[0] if frames else ""
    finally:
        node.destroy_node()


def with_frame(arguments: Sequence[str], frame: str) -> list[str]:
    """RViz's arguments with a fixed frame; it must come before those of ROS."""
    at = [*arguments, "--ros-args"].index("--ros-args")
    option = ["--fixed-frame", frame] if frame else []
    return [*arguments[:at], *option, *arguments[at:]]


def main() -> None:
    """Replaces this process with RViz; the arguments are those of RViz."""
    rclpy.init()
    try:
        frame = first_frame(WAIT)
    except (KeyboardInterrupt, ExternalShutdownException):
        return
    finally:
        rclpy.try_shutdown()
    rviz = str(Path(get_package_prefix("rviz2")) / "lib" / "rviz2" / "rviz2")
    os.execv(rviz, with_frame([rviz, *sys.argv[1:]], frame))
