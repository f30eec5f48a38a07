# SPDX-License-Identifier: Apache-2.0
"""Publishes files as a camera topic, starts the detector on it, and RViz if it is installed."""

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

from ssd_ros.ros.parameter_table import DETECTOR, IMAGE_SOURCE

DEMO = "demo"  # the bundled weights: nothing is downloaded for the demo

SHARE = Path(get_package_share_directory("ssd_ros"))


def generate_launch_description() -> LaunchDescription:
    # Without the profile in both processes large images are lost; the user's own is kept.
    profile = str(SHARE / "config" / "fastdds.xml")
    variables = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
    own = any(name in os.environ for name in variables)
    environment = [] if own else [SetEnvironmentVariable(name, profile) for name in variables]
    return LaunchDescription(
        [
            *environment,
            DeclareLaunchArgument("source", description=IMAGE_SOURCE["source"].text),
            DeclareLaunchArgument(
                "rate", default_value="10.0", description=IMAGE_SOURCE["rate"].text
            ),
            DeclareLaunchArgument(
                "weights", default_value=DEMO, description=DETECTOR["weights"].text
            ),
            DeclareLaunchArgument(
                "score_threshold",
                default_value=str(DETECTOR["score_threshold"].default),
                description=DETECTOR["score_threshold"].text,
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
        return [LogInfo(msg="rviz2 is not installed; view /detections_image with another tool")]
    config = str(SHARE / "config" / "detector.rviz")
    return [Node(package="rviz2", executable="rviz2", arguments=["-d", config])]
