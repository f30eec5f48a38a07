# SPDX-License-Identifier: Apache-2.0
"""A ROS namespace for each test: real nodes and processes, and a node that watches them."""

import contextlib
import json
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from diagnostic_msgs.msg import DiagnosticArray
from processes import Process
from rcl_interfaces.msg import Log
from rclpy.executors import Executor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from waiting import wait_for

from ssd_ros.ros.detector_node import DetectorNode
from ssd_ros.ros.executor import create_executor
from ssd_ros.ros.guarded_node import THREADS
from ssd_ros.ros.topics import OUTPUTS, CameraTopics

ROOT = Path(__file__).parents[1]
ROSOUT = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)
T = TypeVar("T")


@dataclass(frozen=True)
class Status:
    """One line of /diagnostics."""

    level: bytes
    summary: str
    values: dict[str, str]

    def count(self, name: str) -> int:
        return int(self.values[name])


class Graph:
    """A namespace and a node that watches it; `close` ends all that was started in it."""

    def __init__(self, namespace: str, folder: Path) -> None:
        self.namespace = namespace
        self.diagnostics: dict[str, Status] = {}
        self.diagnostics_heard = 0
        self.node = Node("watcher", namespace=namespace)
        self._folder = folder
        self._processes: list[Process] = []
        self._started = contextlib.ExitStack()
        self._started.callback(self.node.destroy_node)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._note, 10)
        self._log: list[Log] = self.hear(Log, "/rosout", ROSOUT)
        self._spin(self.node, create_executor(1, print))

    def name(self, relative: str) -> str:
        return f"{self.namespace}/{relative}"

    def topics(self, image: str = "image_raw") -> CameraTopics:
        """The topics of a camera whose outputs are in the test's namespace."""
        return CameraTopics(self.name(image), {name: self.name(name) for name in OUTPUTS})

    def start_detector(
        self, parameters: Mapping[str, Any], node_class: type[DetectorNode] = DetectorNode
    ) -> DetectorNode:
        """A detector node in this process, spun as `ssd_ros.ros.process.run` does."""
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        node = node_class(namespace=self.namespace, parameter_overrides=overrides)
        self._started.callback(node.destroy_node)
        self._started.callback(node.close)
        node.start()
        self._spin(node, create_executor(THREADS, node.report_failure))
        return node

    def start_process(
        self,
        module: str,
        parameters: Mapping[str, Any],
        namespace: str | None = None,
        more: Sequence[str] = (),
    ) -> Process:
        """A node as `ros2 run` starts it, in the test's namespace or in another.

        Args:
            more: of the arguments after --ros-args.
        """
        command = [*node_command(module, parameters, namespace or self.namespace), *more]
        return self.start_command(command, cwd=ROOT)

    def start_command(self, command: Sequence[str], **options: Any) -> Process:
        """Any process, ended with the test; options as of subprocess.Popen."""
        log = self._folder / f"{len(self._processes)}.log"
        self._processes.append(Process(command, log, **options))
        return self._processes[-1]

    def hear(self, kind: type[T], topic: str, qos: QoSProfile | int = 1000) -> list[T]:
        """A list that grows with every message of a topic."""
        heard: list[T] = []
        self.node.create_subscription(kind, topic, heard.append, qos)
        return heard

    def logged(self, text: str) -> list[str]:
        """Messages with this text that the test's nodes have logged so far, from /rosout."""
        own = f"{self.namespace.strip('/')}."
        return [line.msg for line in self._log if line.name.startswith(own) and text in line.msg]

    def wait_for_log(self, text: str) -> str:
        """The first such line, once it is there."""
        return wait_for(lambda: self.logged(text), f"'{text}' in the log")[0]

    def status(self, name: str) -> Status:
        """The latest status of `detector` or `detector: TOPIC` in /diagnostics."""
        return wait_for(lambda: self.diagnostics.get(self.name(name)), f"the status of {name}")

    def camera_status(self, topic: str = "image_raw", **at_least: int) -> Status:
        """A camera's status in /diagnostics once its counts are at least these."""

        def high_enough() -> Status | None:
            status = self.status(f"detector: {self.name(topic)}")
            reached = all(status.count(name) >= count for name, count in at_least.items())
            return status if reached else None

        return wait_for(high_enough, f"{at_least} in /diagnostics")

    def next_diagnostics(self, count: int = 1) -> None:
        """Waits for further messages on /diagnostics, which nodes publish each second."""
        enough = self.diagnostics_heard + count
        wait_for(lambda: self.diagnostics_heard >= enough, "/diagnostics")

    def close(self) -> None:
        for process in self._processes:
            if process.alive:
                process.send(signal.SIGINT)
        self._started.close()
        for process in self._processes:
            process.exit_code()

    def _spin(self, node: Node, executor: Executor) -> None:
        executor.add_node(node)
        stopping = threading.Event()

        def spin() -> None:  # shutting an executor down while it spins is not safe
            while not stopping.is_set():
                executor.spin_once(timeout_sec=0.1)

        thread = threading.Thread(target=spin, name=node.get_name(), daemon=True)
        thread.start()
        self._started.callback(executor.shutdown)
        self._started.callback(thread.join)
        self._started.callback(stopping.set)

    def _note(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            self.diagnostics[status.name] = Status(status.level, status.message, values)
        self.diagnostics_heard += 1


def node_command(module: str, parameters: Mapping[str, Any], namespace: str) -> list[str]:
    """The command that starts a node as `ros2 run` does."""
    command = [sys.executable, "-m", module, "--ros-args", "-r", f"__ns:={namespace}"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={json.dumps(value)}"]
    return command
