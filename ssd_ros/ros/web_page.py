# SPDX-License-Identifier: Apache-2.0
"""The detector node's web page: what it shows comes from the node, changes go to its parameters."""

from __future__ import annotations

import errno
import os
import queue
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.parameter import Parameter

from ssd_ros.image import printable
from ssd_ros.ros.annotated_outputs import View
from ssd_ros.web.state import PageState


class ParameterRequests:
    """Changes of a node's parameters that other threads ask for.

    They are made in the node's default callback group, one after the other with the requests to its
    parameter services, and by the same function: callbacks and ranges refuse what they refuse
    there.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._waiting: queue.SimpleQueue[tuple[list[Parameter], Future[str]]] = queue.SimpleQueue()
        self._guard = node.create_guard_condition(self._serve)

    def submit(self, values: Mapping[str, Any]) -> Future[str]:
        """Asks for a change of all these parameters or none.

        Returns:
            Why it was refused; empty if it was not.
        """
        parameters = [Parameter(name, value=value) for name, value in values.items()]
        future: Future[str] = Future()
        self._waiting.put((parameters, future))
        self._guard.trigger()
        return future

    def _serve(self) -> None:
        while not self._waiting.empty():
            parameters, future = self._waiting.get()
            if not future.set_running_or_notify_cancel():  # its viewer did not wait
                continue
            try:
                result = self._node.set_parameters_atomically(parameters)
                future.set_result("" if result.successful else result.reason or "refused")
            except Exception as error:
                future.set_result(printable(str(error) or repr(error)))


class WebPage:
    """The web page on `web_host` and `web_port`, from the node's start until it is closed.

    It lives longer than what is configured, to show why the node is not.

    Args:
        node: has declared both parameters, and those that the page shows.

    Attributes:
        problem: why there is no page though there is a port; else empty.
    """

    def __init__(self, node: Any) -> None:
        self._node = node
        self._state = PageState(node.get_fully_qualified_name())
        self._classes: Sequence[str] = ()
        self._server: Any = None
        self._address = ("", 0)  # of the server, or of the one that could not be opened
        self._requests: ParameterRequests | None = None
        self.problem = ""

    def open(self) -> None:
        """Opens the page, at another address if the parameters have changed, if there is a port.

        A page that cannot be opened is logged; the node goes on without it.
        """
        host, port = (self._node.get_parameter(name).value for name in ("web_host", "web_port"))
        address = (host, port)
        if address == self._address and not self.problem:
            return
        self.close()
        before, self._address, self.problem = self.problem, address, ""
        if not (host and port):
            return
        try:
            self._server = self._open(host, port)
            self._node.get_logger().info(f"web page: {_url(host, port)}")
        except ImportError as error:
            self.problem = (
                f"no web page: web_port needs {error.name}; install python3-aiohttp with apt, or "
                "aiohttp with pip"
            )
        except (OSError, ValueError) as error:  # ValueError for what can be no name
            number = getattr(error, "errno", 0)  # below 0 for a host that is not known
            reason = os.strerror(number) if number in errno.errorcode else str(error)
            self.problem = printable(
                f"no web page: cannot listen on web_port {port} of web_host '{host}': {reason}"
            )
        except Exception as error:  # of aiohttp or of what it needs; the node detects without it
            self.problem = printable(f"no web page: {type(error).__name__}: {error}")
        if self.problem and self.problem != before:
            self._node.get_logger().warning(self.problem)

    def view(self, topic: str) -> View | None:
        """Where the frames of an image topic are shown; None without a page."""
        return None if self._server is None else self._server.stream(topic)

    def note(self, diagnostics: DiagnosticArray, classes: Sequence[str]) -> None:
        """Takes what the page shows beside the images.

        Args:
            diagnostics: of the node and its cameras.
            classes: all class names of the weights; empty while the node is unconfigured.
        """
        if self._server is not None:
            self._state.note(diagnostics.status, time.monotonic())
            self._classes = classes

    def close(self) -> None:
        """Closes the page and all its connections."""
        if self._server is not None:
            self._server.close()
        self._server, self._address = None, ("", 0)

    def _open(self, host: str, port: int) -> Any:
        from ssd_ros.web.application import Services  # aiohttp is optional, and takes time
        from ssd_ros.web.server import WebServer

        if self._requests is None:
            self._requests = ParameterRequests(self._node)
        report = self._node.report_failure
        return WebServer(host, port, Services(self._page_state, self._requests.submit, report))

    def _page_state(self) -> dict[str, Any]:
        threshold = self._node.get_parameter("score_threshold").value
        class_filter = self._node.get_parameter("classes").value
        return self._state.to_dict(threshold, class_filter, self._classes)


def _url(host: str, port: int) -> str:
    """Where the page is found; a browser takes no address that stands for all of a machine's."""
    if host in ("0.0.0.0", "::"):
        return f"http://localhost:{port}/, from elsewhere http://ADDRESS:{port}/"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
