# SPDX-License-Identifier: Apache-2.0
"""Declares the parameters of `ssd_ros.ros.parameter_table` in a node."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from ssd_ros.ros.parameter_table import ParameterSpec


def descriptor(
    spec: ParameterSpec, read_only: bool = False, dynamic_typing: bool = False
) -> ParameterDescriptor:
    """What `ros2 param describe` shows; rclpy enforces the range and the two flags."""
    constraints = []
    if spec.allowed and not spec.bounds:
        constraints.append(f"Values: {spec.allowed}.")
    if not spec.live and not read_only:
        constraints.append("Can be set only while the node is unconfigured.")
    message = ParameterDescriptor(
        description=spec.text,
        additional_constraints=" ".join(constraints),
        read_only=read_only,
        dynamic_typing=dynamic_typing,
    )
    if spec.bounds and isinstance(spec.default, float):
        low, high = spec.bounds
        message.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    elif spec.bounds:
        start, end = map(int, spec.bounds)
        message.integer_range = [IntegerRange(from_value=start, to_value=end, step=1)]
    return message


def declare(
    node: Node,
    name: str,
    spec: ParameterSpec,
    default: Any = None,
    read_only: bool = False,
    dynamic_typing: bool = False,
) -> Any:
    """Declares one parameter.

    Args:
        default: replaces the table's default, where it depends on another parameter.
        read_only: it cannot be set after the start.
        dynamic_typing: values of other types are accepted, too.

    Returns:
        Its value.
    """
    described = descriptor(spec, read_only, dynamic_typing)
    value = spec.default if default is None else default
    return node.declare_parameter(name, value, described).value
