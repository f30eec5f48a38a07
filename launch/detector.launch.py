# SPDX-License-Identifier: Apache-2.0
"""Starts the detector; `ros2 launch ssd_ros detector.launch.py --show-args` lists the arguments."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from ssd_ros.ros.parameter_table import DETECTOR, ParameterSpec, from_text

SHARE = Path(get_package_share_directory("ssd_ros"))


def generate_launch_description() -> LaunchDescription:
    # Every parameter of the node is an argument; an empty one leaves the parameter file's value.
    arguments = [
        DeclareLaunchArgument(name, default_value="", description=_description(spec))
        for name, spec in DETECTOR.items()
    ]
    arguments += [
        DeclareLaunchArgument(
            "params_file",
            default_value=str(SHARE / "config" / "detector.yaml"),
            description="YAML file of parameters; the other arguments take precedence over it",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of the node"),
        DeclareLaunchArgument(
            "log_level", default_value="info", description="debug, info, warn, error or fatal"
        ),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_detector)])


def _description(spec: ParameterSpec) -> str:
    return f"{spec.described} Default: value in params_file."


def _detector(context: LaunchContext) -> list[Node]:
    given = {name: LaunchConfiguration(name).perform(context) for name in DETECTOR}
    return [
        Node(
            package="ssd_ros",
            executable="detector",
            name="detector",
            namespace=LaunchConfiguration("namespace"),
            output="screen",
            emulate_tty=True,
            parameters=[
                LaunchConfiguration("params_file"),
                {
                    name: from_text(name, DETECTOR[name], text)
                    for name, text in given.items()
                    if text
                },
            ],
            ros_arguments=["--log-level", ["detector:=", LaunchConfiguration("log_level")]],
        )
    ]
