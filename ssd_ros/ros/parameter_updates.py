# SPDX-License-Identifier: Apache-2.0
"""Changes of the detector's parameters: all of a change takes effect, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic, TypeVar

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from ssd_ros.image import printable
from ssd_ros.ros.image_subscription import check_override
from ssd_ros.ros.parameter_table import DETECTOR
from ssd_ros.ros.settings import Settings, find_problems
from ssd_ros.ros.topics import TopicResolver

T = TypeVar("T")


class ParameterUpdates(Generic[T]):
    """Prepares a change while it is validated, and applies it once every callback has accepted it.

    A node can have several callbacks that validate a change, and each of them can refuse it after
    this one has accepted it. So nothing may take effect before rclpy's post-set callback.

    Args:
        node: has declared the parameters of `parameter_table.DETECTOR`.
        prepare: makes what `apply` needs from the new settings and the names of the changed
            parameters, without side effects; None if there is nothing to apply. An exception
            refuses the change. Not called while other parameters are still invalid.
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
        self._resolve = TopicResolver(node)
        self._has_post_set = hasattr(node, "add_post_set_parameters_callback")
        node.add_on_set_parameters_callback(self._validate)
        if self._has_post_set:
            node.add_post_set_parameters_callback(self._commit)

    def settings(self) -> Settings:
        """The node's current parameters.

        Raises:
            ValueError: they are not valid together.
        """
        values = self._values()
        for problem in find_problems(values, self._resolve).values():
            raise ValueError(problem)
        return Settings.from_values(values)

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
        try:
            for parameter in parameters:
                # A wrong start value is declared all the same, so that it can be corrected.
                if self._node.has_parameter(parameter.name):
                    check_override(parameter.name, parameter.value)
            if new and self._check(old, new):
                self._prepared = self._prepare(Settings.from_values(old | new), new)
        except Exception as error:  # of loading the weights: nearly anything
            return SetParametersResult(
                successful=False, reason=printable(str(error) or repr(error))
            )
        if not self._has_post_set:  # Humble
            self._commit(parameters)
        return SetParametersResult(successful=True)

    def _check(self, old: dict[str, Any], new: dict[str, Any]) -> bool:
        """Whether all values are valid together after a change.

        Several start values can be wrong, and are then repaired one after the other: what was wrong
        before, and is not changed now, does not refuse a change.

        Raises:
            ValueError: a value that is changed is wrong, or makes another one wrong.
        """
        problems = find_problems(old | new, self._resolve)
        before = find_problems(old, self._resolve)
        for name, problem in problems.items():
            if name in new or name not in before:
                raise ValueError(problem)
        return not problems

    def _commit(self, parameters: Sequence[Parameter]) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            self._apply(prepared)
