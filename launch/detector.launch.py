# SPDX-License-Identifier: Apache-2.0
"""Starts the detector; `ros2 launch ssd_ros detector.launch.py --show-args` lists the arguments."""

from pathlib import Path
from typing import Any

from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_prefix,
    get_package_share_directory,
)
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.utilities import make_namespace_absolute, prefix_namespace

from ssd_ros.ros.launch_topics import output_namespace
from ssd_ros.ros.parameter_table import DETECTOR, ParameterSpec, from_text, to_bool

SHARE = Path(get_package_share_directory("ssd_ros"))
NAME = "detector"
SHOWN = ("detections", "detections_image", "detections_markers")  # in RViz, and for its frame

# Besides the node's parameters: name, default, description.
ARGUMENTS = (
    (
        "params_file",
        str(SHARE / "config" / "detector.yaml"),
        "YAML file of parameters; the other arguments take precedence over it",
    ),
    ("namespace", "", "namespace of the node"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
    ("use_sim_time", "", "true takes the time from /clock; default: as in params_file"),
    ("rviz", "false", "true also opens RViz on the outputs of the first image topic"),
    ("fixed_frame", "", "RViz's fixed frame; default: that of the first detections"),
)


def generate_launch_description() -> LaunchDescription:
    # Every parameter of the node is an argument; an empty one leaves the parameter file's value.
    arguments = [
        DeclareLaunchArgument(name, default_value="", description=_description(spec))
        for name, spec in DETECTOR.items()
    ]
    arguments += [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, default, text in ARGUMENTS
    ]
    return LaunchDescription(
        [*arguments, OpaqueFunction(function=_detector), OpaqueFunction(function=_rviz)]
    )


def _description(spec: ParameterSpec) -> str:
    return f"{spec.described} Default: value in params_file."


def _value(context: LaunchContext, name: str) -> str:
    return str(LaunchConfiguration(name).perform(context))


def _namespace(context: LaunchContext) -> str:
    """The node's namespace, below one that an including launch file has pushed."""
    pushed = context.launch_configurations.get("ros_namespace")
    return make_namespace_absolute(prefix_namespace(pushed, _value(context, "namespace"))) or "/"


def _given(context: LaunchContext) -> dict[str, Any]:
    """The parameters given as arguments, in their types."""
    texts = {name: _value(context, name) for name in DETECTOR}
    return {name: from_text(name, DETECTOR[name], text) for name, text in texts.items() if text}


def _exactly(value: Any) -> ParameterValue:
    """A parameter's value as it is; launch_ros would make a number of the text '1'."""
    return ParameterValue(value, value_type=list[str] if isinstance(value, list) else type(value))


def _clock(context: LaunchContext) -> dict[str, bool]:
    text = _value(context, "use_sim_time")
    return {"use_sim_time": to_bool("use_sim_time", text)} if text else {}


def _detector(context: LaunchContext) -> list[Node]:
    # The name of a node's logger contains its namespace.
    logger = f"{_namespace(context)}/{NAME}".strip("/").replace("/", ".")
    return [
        Node(
            package="ssd_ros",
            executable="detector",
            name=NAME,
            namespace=LaunchConfiguration("namespace"),
            output="screen",
            emulate_tty=True,
            parameters=[
                LaunchConfiguration("params_file"),
                {name: _exactly(value) for name, value in _given(context).items()},
                _clock(context),
            ],
            ros_arguments=["--log-level", f"{logger}:={_value(context, 'log_level')}"],
        )
    ]


def _rviz(context: LaunchContext) -> list[LogInfo | Node]:
    if not to_bool("rviz", _value(context, "rviz")):
        return []
    file, namespace = _value(context, "params_file"), _namespace(context)
    space = output_namespace(_given(context), file, NAME, namespace)
    if space is None:
        return [LogInfo(msg=f"no RViz: '{file}' gives no list of topics as image_topics")]
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        image = f"{space}/detections_image"
        return [LogInfo(msg=f"rviz2 is not installed; view '{image}' with another tool")]
    arguments, program = ["-d", str(SHARE / "config" / "detector.rviz")], ("ssd_ros", "open_rviz")
    if frame := _value(context, "fixed_frame"):
        arguments, program = [*arguments, "--fixed-frame", frame], ("rviz2", "rviz2")
    return [
        Node(
            package=program[0],
            executable=program[1],
            arguments=arguments,
            parameters=[_clock(context)],
            # The file's topics are those of an image topic without a namespace.
            remappings=[(f"/{name}", f"{space}/{name}") for name in SHOWN],
        )
    ]
