# SPDX-License-Identifier: Apache-2.0
"""A lifecycle node that no callback, request or transition can end or block."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

from lifecycle_msgs.srv import GetAvailableStates, GetAvailableTransitions, GetState
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    GetParameterTypes,
    ListParameters,
)
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.parameter import Parameter

from ssd_ros.image import printable
from ssd_ros.ros.executor import answer_always
from ssd_ros.ros.failures import FailureLog, RecurringProblems
from ssd_ros.ros.parameters import as_declared

THREADS = 3  # of the executor, one for each callback group
READING = {
    GetAvailableStates,
    GetAvailableTransitions,
    GetState,
    DescribeParameters,
    GetParameters,
    GetParameterTypes,
    ListParameters,
}
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class GuardedLifecycleNode(LifecycleNode):
    """A lifecycle node for the executors of `ssd_ros.ros.executor`.

    Attributes:
        stream_group: callback group of all subscriptions, and of what must never wait for a
            service or a transition, which are in the default group.
        reading_group: callback group of the services that change nothing.
        callback_failures: exceptions of callbacks and of requests.
        failure: why the last transition failed; empty if it did not.
        lifecycle_lock: held during transitions.
    """

    def __init__(self, name: str, **options: Any) -> None:
        self.stream_group = MutuallyExclusiveCallbackGroup()
        self.reading_group = MutuallyExclusiveCallbackGroup()
        self.callback_failures = FailureLog()
        self._problems = RecurringProblems()
        self.failure = ""
        self.lifecycle_lock = threading.RLock()
        super().__init__(name, **options)

    def create_subscription(self, *args: Any, **options: Any) -> Any:
        """As rclpy's node does, but in `stream_group`, unless another group is given.

        rclpy's own subscription to /clock has the default group, and would wait there while a
        service loads weights.
        """
        options["callback_group"] = options.get("callback_group") or self.stream_group
        return super().create_subscription(*args, **options)

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """As rclpy's node does, also for values that only their type keeps from being valid."""
        return super().set_parameters_atomically([self._as_declared(p) for p in parameter_list])

    def _as_declared(self, parameter: Parameter) -> Parameter:
        if not self.has_parameter(parameter.name):
            return parameter
        return as_declared(Parameter.Type(self.describe_parameter(parameter.name).type), parameter)

    def guard_services(self) -> None:
        """Makes all services that exist now answer when their callback raises.

        Those that change nothing also answer while another one is busy.
        """
        answer_always(self, self.report_failure)
        for service in self.services:
            if service.srv_type in READING:
                service.callback_group = self.reading_group
                self.reading_group.add_entity(service)

    def report_failure(self, text: str) -> None:
        """Logs what went wrong in a callback, and keeps it for the diagnostics."""
        text = printable(text)  # it may quote a request or a message
        self.callback_failures.note(text)
        if self._problems.begins_now(text):
            self.get_logger().error(text)

    def transition(
        self,
        name: str,
        step: Callable[[], None],
        entities: Callable[[], TransitionCallbackReturn],
        undo: Callable[[], None] | None = None,
    ) -> TransitionCallbackReturn:
        """Runs a step of the node, then that of its managed entities.

        Args:
            entities: rclpy's own callback; without it lifecycle publishers stay silent.
            undo: reverts the step if it or the managed entities fail.
        """
        with self.lifecycle_lock:
            self.failure = ""
            try:
                step()
                result = entities()
            except Exception as error:  # rclpy would drop the reason
                self.failure, result = printable(f"cannot {name}: {error}"), FAILURE
            if result != SUCCESS:
                self.failure = self.failure or f"cannot {name}: a managed entity failed"
                self.get_logger().error(self.failure)
                if undo is not None:
                    undo()
            self._forget_destroyed()
        return result

    def _forget_destroyed(self) -> None:
        """Drops what rclpy's callback groups keep of every entity that there ever was."""
        for group in (self.stream_group, self.reading_group, self.default_callback_group):
            for entity in list(group.entities):  # at once: others may add some meanwhile
                if isinstance(entity, weakref.ref) and entity() is None:
                    group.entities.discard(entity)
