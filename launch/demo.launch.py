# SPDX-License-Identifier: Apache-2.0
"""A camera made of files, the detector on it, and RViz where it is installed."""

import os
from pathlib import Path

from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_prefix,
    get_package_share_directory,
)
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = Path(get_package_share_directory("ssd_ros"))


def generate_launch_description() -> LaunchDescription:
    # Both sides need the profile, or large images get lost; a profile of the user's own wins.
    profile = str(SHARE / "config" / "fastdds.xml")
    variables = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
    own = any(name in os.environ for name in variables)
    environment = [] if own else [SetEnvironmentVariable(name, profile) for name in variables]
    return LaunchDescription(
        [
            *environment,
            DeclareLaunchArgument(
                "source", description="folder of images, video file, or webcam (0, /dev/video0)"
            ),
            DeclareLaunchArgument("rate", default_value="10.0", description="images a second"),
            DeclareLaunchArgument("weights", default_value="demo", description="weights file"),
            DeclareLaunchArgument(
                "score_threshold", default_value="0.5", description="detections score above this"
            ),
            DeclareLaunchArgument(
                "rviz", default_value="true", description="show the annotated image in RViz"
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(SHARE / "launch" / "detector.launch.py")),
                launch_arguments={
                    "weights": LaunchConfiguration("weights"),
                    "score_threshold": LaunchConfiguration("score_threshold"),
                    "image_topics": "/image_raw",
                }.items(),
            ),
            OpaqueFunction(function=_source),
            OpaqueFunction(function=_rviz),
        ]
    )


def _source(context: LaunchContext) -> list[Node]:
    return [
        Node(
            package="ssd_ros",
            executable="image_source",
            output="screen",
            parameters=[
                {
                    "source": LaunchConfiguration("source").perform(context),
                    "rate": float(LaunchConfiguration("rate").perform(context)),
                }
            ],
        )
    ]


def _rviz(context: LaunchContext) -> list[LogInfo | Node]:
    if LaunchConfiguration("rviz").perform(context).lower() not in ("true", "1", "yes"):
        return []
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        return [LogInfo(msg="rviz2 is not installed: look at /detections_image with another tool")]
    config = str(SHARE / "config" / "detector.rviz")
    return [Node(package="rviz2", executable="rviz2", arguments=["-d", config])]
