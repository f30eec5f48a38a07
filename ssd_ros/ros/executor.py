# SPDX-License-Identifier: Apache-2.0
"""Executors that go on when a callback raises, and services that then answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.exceptions import InvalidHandle
from rclpy.executors import (
    Executor,
    ExternalShutdownException,
    MultiThreadedExecutor,
    SingleThreadedExecutor,
)
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.service import Service

Report: TypeAlias = Callable[[str], None]  # gets the text about an exception


class _Enduring(Executor):
    """Reports exceptions of callbacks and goes on; only ExternalShutdownException ends it.

    Attributes:
        report: gets a text about every exception.
    """

    report: Report

    def spin_once(self, timeout_sec: float | None = None) -> None:
        try:
            super().spin_once(timeout_sec)
        except ExternalShutdownException:
            raise
        except InvalidHandle:  # of what another thread has destroyed while it was waited for
            return
        except Exception as error:
            self.report(f"a callback failed: {_text(error)}")

    def _make_handler(self, entity: Any, node: Node, take: Callable[..., Any], *rest: Any) -> Any:
        # An exception while a message is taken would leave the callback group occupied for ever.
        # On Humble that happens whenever a subscription is destroyed while its callback is due.
        def take_or_report(entity: Any) -> Any:
            try:
                return take(entity)
            except InvalidHandle:
                return None
            except Exception as error:
                self.report(f"a message could not be taken: {_text(error)}")
                return None

        return super()._make_handler(entity, node, take_or_report, *rest)


class _SingleThreaded(_Enduring, SingleThreadedExecutor):
    pass


class _MultiThreaded(_Enduring, MultiThreadedExecutor):
    pass


def create_executor(threads: int, report: Report) -> Executor:
    """An executor for a node that no callback's exception may end.

    Args:
        threads: number of callbacks that may run at the same time.
        report: gets a text about every exception.
    """
    executor = _MultiThreaded(threads) if threads > 1 else _SingleThreaded()
    executor.report = report
    return executor


def answer_always(node: Node, report: Report) -> None:
    """Makes each service that the node has now answer when its callback raises.

    rclpy's own callbacks raise for requests that they do not expect: a transition that is invalid
    in the present state, a parameter of an unknown type. The answer then says that the request
    failed, in the fields that the service's type has for that.

    Args:
        report: gets a text about every exception.
    """
    for service in node.services:
        _answer_always(node, service, report)


def _answer_always(node: Node, service: Service, report: Report) -> None:
    callback = service.callback

    def answer(request: Any, response: Any) -> Any:
        try:
            return callback(request, response)
        except Exception as error:
            report(f"request to {service.srv_name} failed: {_text(error)}")
            return _failed(service.srv_type.Response(), str(error))

    def answer_each(request: Any, response: Any) -> Any:
        """All parameters at once, which may be valid only together, as those of a file are.

        If that is refused, one after the other: those before and after an invalid one are set.
        """
        if len(request.parameters) > 1 and _set_together(node, request.parameters):
            response.results = [SetParametersResult(successful=True)] * len(request.parameters)
            return response
        for parameter in request.parameters:
            one = answer(SetParameters.Request(parameters=[parameter]), SetParameters.Response())
            response.results += one.results
        return response

    service.callback = answer_each if service.srv_type is SetParameters else answer


def _set_together(node: Node, parameters: Sequence[ParameterMsg]) -> bool:
    """Whether all of the parameters could be set at once; else none is."""
    try:
        values = [Parameter.from_parameter_msg(parameter) for parameter in parameters]
        return bool(node.set_parameters_atomically(values).successful)
    except Exception:  # of rclpy, for a parameter of an unknown name or type
        return False


def _failed(response: Any, reason: str) -> Any:
    """A response with the reason; `success` and `successful` are false by default."""
    if isinstance(response, SetParameters.Response):
        response.results = [SetParametersResult(successful=False, reason=reason)]
    elif isinstance(response, SetParametersAtomically.Response):
        response.result = SetParametersResult(successful=False, reason=reason)
    elif hasattr(response, "message"):
        response.message = reason
    return response


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
