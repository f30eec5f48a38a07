# SPDX-License-Identifier: Apache-2.0
"""Changes of the detector's parameters: all of a change takes effect, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic, TypeVar

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from ssd_ros.ros.parameter_table import DETECTOR
from ssd_ros.ros.settings import Settings

T = TypeVar("T")


class ParameterUpdates(Generic[T]):
    """Prepares a change while it is validated, and applies it once every callback has accepted it.

    A node can have several callbacks that validate a change, and each of them can refuse it after
    this one has accepted it. So nothing may take effect before rclpy's post-set callback.

    Args:
        node: has declared the parameters of `parameter_table.DETECTOR`.
        prepare: makes what `apply` needs from the new settings and the names of the changed
            parameters, without side effects; None if there is nothing to apply. ValueError and
            RuntimeError refuse the change.
        apply: puts in force what was prepared; must not fail.
    """

    def __init__(
        self,
        node: Node,
        prepare: Callable[[Settings, Collection[str]], T | None],
        apply: Callable[[T], None],
    ) -> None:
        self._node = node
        self._prepare = prepare
        self._apply = apply
        self._prepared: T | None = None
        self._has_post_set = hasattr(node, "add_post_set_parameters_callback")
        node.add_on_set_parameters_callback(self._validate)
        if self._has_post_set:
            node.add_post_set_parameters_callback(self._commit)

    def settings(self) -> Settings:
        """The node's current parameters.

        Raises:
            ValueError: they are not valid together.
        """
        return Settings.from_values(self._values())

    def _values(self) -> dict[str, Any]:
        return {name: self._node.get_parameter(name).value for name in DETECTOR}

    def _validate(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        self._prepared = None  # of a change that another callback refused
        old = self._values()
        # A weights file is loaded again under its old name: its content may have changed.
        new = {
            parameter.name: parameter.value
            for parameter in parameters
            if parameter.name in DETECTOR
            and (parameter.value != old[parameter.name] or parameter.name == "weights")
        }
        if new:
            try:
                self._prepared = self._prepare(Settings.from_values(old | new), new)
            except (ValueError, RuntimeError) as error:
                return SetParametersResult(successful=False, reason=str(error))
        if not self._has_post_set:  # Humble
            self._commit(parameters)
        return SetParametersResult(successful=True)

    def _commit(self, parameters: Sequence[Parameter]) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            self._apply(prepared)
