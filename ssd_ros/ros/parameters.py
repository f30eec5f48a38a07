# SPDX-License-Identifier: Apache-2.0
"""Declares the parameters of `ssd_ros.ros.parameter_table` in a node."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sized
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.node import Node
from rclpy.parameter import Parameter

from ssd_ros.ros.parameter_table import ParameterSpec, split_list

# What to write for each type, for the message about another one.
_EXAMPLES = {
    bool: "true or false",
    int: "a whole number, such as 5",
    float: "a number, such as 0.5",
    str: "a text; one that looks like a number or a truth value in two pairs of quotes: \"'5'\"",
    list: "a list of texts, such as [a, b]",
}


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

    Raises:
        ValueError: it was started with a value of another type.
    """
    described = descriptor(spec, read_only, dynamic_typing)
    value = spec.default if default is None else default
    given = _overrides(node)
    if name in given and not dynamic_typing:
        if isinstance(spec.default, list) and given[name].value is None:
            given[name] = Parameter(name, value=[""])  # what rclpy makes of an empty list in YAML
        given[name] = as_declared(Parameter.Type.from_parameter_value(value), given[name])
    try:
        return node.declare_parameter(name, value, described).value
    except InvalidParameterTypeException:
        found = given[name]
        raise ValueError(
            f"parameter '{name}' is {found.value!r} ({found.type_.name}), expected "
            f"{_EXAMPLES[type(spec.default)]}"
        ) from None


def as_declared(kind: Parameter.Type, parameter: Parameter) -> Parameter:
    """A parameter's value in its declared type, where ROS's types are stricter than what is meant.

    ROS tells 1 from 1.0 and a list of one from its item, and an empty list has no type of its own.
    """
    value: Any = parameter.value
    if kind == Parameter.Type.DOUBLE and parameter.type_ == Parameter.Type.INTEGER:
        return Parameter(parameter.name, kind, float(value))
    if kind == Parameter.Type.STRING_ARRAY and isinstance(value, str):
        return Parameter(parameter.name, kind, split_list(value))
    if kind == Parameter.Type.STRING_ARRAY and isinstance(value, Sized) and not len(value):
        return Parameter(parameter.name, kind, [""])
    return parameter


def warn_of_unknown(node: Node, names: Iterable[str]) -> None:
    """Logs each parameter that the node was started with and has not declared.

    Call it once all are declared; rclpy ignores the others silently.

    Args:
        names: of the parameters that can be meant.
    """
    known = [*names, "use_sim_time"]
    # Overrides of QoS are declared with their topics, later.
    given = [name for name in _overrides(node) if not name.startswith("qos_overrides.")]
    for name in given:
        if not node.has_parameter(name):
            node.get_logger().warning(explain_unknown(name, known))


def explain_unknown(name: str, known: Iterable[str]) -> str:
    """A text about a parameter that does not exist, with the nearest name."""
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"there are: {', '.join(known)}"
    return f"unknown parameter '{name}' is ignored; {hint}"


def _overrides(node: Node) -> dict[str, Parameter]:
    """The parameters that a node was started with; rclpy offers them only for declared ones."""
    return getattr(node, "_parameter_overrides", {})
