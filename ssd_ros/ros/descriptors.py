# SPDX-License-Identifier: Apache-2.0
"""Ranges in parameter descriptors, the same for every node of the package."""

from __future__ import annotations

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor


def set_bounds(
    described: ParameterDescriptor, bounds: tuple[float, float] | None, kind: type
) -> None:
    """Gives a descriptor the range that rclpy then enforces, for a float or an int."""
    if bounds and kind is float:
        described.floating_point_range = [
            FloatingPointRange(from_value=bounds[0], to_value=bounds[1])
        ]
    elif bounds:
        low, high = map(int, bounds)
        described.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
