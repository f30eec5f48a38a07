# SPDX-License-Identifier: Apache-2.0
"""Publishes files as a camera topic, starts the detector on it, and RViz if it is installed.

Ends with an error when the camera or the detector does.
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from ssd_ros.ros.parameter_table import DETECTOR, IMAGE_SOURCE, from_text

SHARE = Path(get_package_share_directory("ssd_ros"))
PARTS = ("image_source", "detector")  # executables without which the demo shows nothing

# Arguments, their defaults and descriptions. The weights are the bundled ones: no download.
SOURCE = {
    "source": (None, IMAGE_SOURCE["source"].text),
    "rate": ("10.0", IMAGE_SOURCE["rate"].text),
    "frame_id": (IMAGE_SOURCE["frame_id"].default, IMAGE_SOURCE["frame_id"].text),
    "camera_info_url": ("", IMAGE_SOURCE["camera_info_url"].text),
    "fov": ("60.0", IMAGE_SOURCE["fov"].text),
}
PASSED_ON = {
    "weights": ("demo", DETECTOR["weights"].text),
    "score_threshold": (str(DETECTOR["score_threshold"].default), DETECTOR["score_threshold"].text),
    "markers": ("true", DETECTOR["markers"].text),
    "log_level": ("info", "of the detector: debug, info, warn, error or fatal"),
    "rviz": ("true", "show the annotated image and the outlines in RViz"),
}


def generate_launch_description() -> LaunchDescription:
    # Without the profile in both processes large images are lost; the user's own is kept.
    profile = str(SHARE / "config" / "fastdds.xml")
    variables = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
    own = any(name in os.environ for name in variables)
    environment = [] if own else [SetEnvironmentVariable(name, profile) for name in variables]
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in (SOURCE | PASSED_ON).items()
    ]
    detector = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "detector.launch.py")),
        launch_arguments={
            **{name: LaunchConfiguration(name) for name in PASSED_ON},
            "image_topics": "/image_raw",
            "fixed_frame": LaunchConfiguration("frame_id"),
        }.items(),
    )
    exits = RegisterEventHandler(OnProcessExit(on_exit=_end))
    return LaunchDescription(
        [*environment, *arguments, exits, detector, OpaqueFunction(function=_source)]
    )


def _source(context: LaunchContext) -> list[Node]:
    texts = {name: LaunchConfiguration(name).perform(context) for name in SOURCE}
    parameters = {name: from_text(name, IMAGE_SOURCE[name], texts[name]) for name in SOURCE}
    return [
        Node(package="ssd_ros", executable="image_source", output="screen", parameters=[parameters])
    ]


def _end(event: ProcessExited, context: LaunchContext) -> list[EmitEvent]:
    """Ends everything once the camera or the detector has ended.

    Raises:
        RuntimeError: it ended by itself; `ros2 launch` then exits with 1.
    """
    part = next((name for name in PARTS if Path(event.cmd[0]).name == name), None)
    if part is None or context.is_shutdown:
        return []
    if event.returncode:
        raise RuntimeError(f"{part} ended with exit code {event.returncode}; its log says why")
    return [EmitEvent(event=Shutdown(reason=f"{part} has ended"))]
