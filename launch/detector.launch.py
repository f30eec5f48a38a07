# SPDX-License-Identifier: Apache-2.0
"""Starts the detector; `ros2 launch ssd_ros detector.launch.py --show-args` lists the arguments."""

from pathlib import Path

import yaml
from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = Path(get_package_share_directory("ssd_ros"))

# Arguments that are parameters of the node. Left empty, the parameter file's value stands.
PARAMETERS = {
    "image_topics": "camera topics, e.g. /front/image_raw,/rear/image_raw",
    "image_transport": "raw or compressed",
    "weights": "weights file: .safetensors, or a torchvision ssd300_vgg16 state dict",
    "device": "auto, cpu, cuda or cuda:N",
    "precision": "auto, fp32, bf16 or fp16",
    "score_threshold": "detections score above this, 0 to 1",
    "nms_iou_threshold": "of two boxes of a class that overlap by more, one stays, 0 to 1",
    "max_detections": "at most so many in an image",
    "classes": "names to report, e.g. person,dog",
    "image_timeout": "seconds without an image until the camera is reported",
    "max_frame_age": "seconds; older images are skipped, 0 for no limit",
    "markers": "true to publish detections_markers for RViz's 3D views",
    "autostart": "true, or false to wait for a lifecycle manager",
}
LISTS = ("image_topics", "classes")
TEXTS = ("image_transport", "weights", "device", "precision")


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(
            name, default_value="", description=f"{text}; left empty: as in params_file"
        )
        for name, text in PARAMETERS.items()
    ]
    arguments += [
        DeclareLaunchArgument(
            "params_file",
            default_value=str(SHARE / "config" / "detector.yaml"),
            description="YAML file of parameters; arguments given here win over it",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="of the node"),
        DeclareLaunchArgument(
            "log_level", default_value="info", description="debug, info, warn, error or fatal"
        ),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_detector)])


def _detector(context: LaunchContext) -> list[Node]:
    given = {name: LaunchConfiguration(name).perform(context) for name in PARAMETERS}
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
                {name: _value(name, text) for name, text in given.items() if text},
            ],
            ros_arguments=["--log-level", ["detector:=", LaunchConfiguration("log_level")]],
        )
    ]


def _value(name: str, text: str) -> object:
    """An argument as the parameter's type: lists as [a, b] or a,b; numbers and booleans as YAML."""
    if name in LISTS:
        return [item.strip(" '\"") for item in text.strip("[] ").split(",")]
    return text if name in TEXTS else yaml.safe_load(text)
