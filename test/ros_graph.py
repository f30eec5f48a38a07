# SPDX-License-Identifier: Apache-2.0
"""A corner of the ROS graph for each test: real nodes and processes, and one to watch them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import pytest
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Log, SetParametersResult
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rclpy.executors import Executor, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMsg
from std_msgs.msg import Header
from std_srvs.srv import SetBool
from vision_msgs.msg import Detection2DArray

from ssd_ros.detector import Detector
from ssd_ros.image import Image
from ssd_ros.io import image_files
from ssd_ros.messages.images import as_array, fill_image
from ssd_ros.model.ssd import SSD300
from ssd_ros.ros.detector_node import DetectorNode
from ssd_ros.weights.native import write
from ssd_ros.weights.weights import Weights

ROOT = Path(__file__).parents[1]
CLASSES = ("cube", "ball", "cone")
OTHER_CLASSES = ("apple", "pear")
PATIENCE = 120.0  # seconds until a test that hangs ends; no behaviour is judged by it
ROSOUT = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)
Stamp = tuple[int, int, str]
T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str, timeout: float = PATIENCE) -> T:
    """The condition's value as soon as it is true; however long a slow machine takes for it."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout:g} s for {what}")
        time.sleep(0.01)
    return value


def stamp_of(header: Header) -> Stamp:
    """What tells one frame from all others."""
    return header.stamp.sec, header.stamp.nanosec, header.frame_id


@dataclass(frozen=True)
class Status:
    """One line of /diagnostics."""

    level: bytes
    summary: str
    values: dict[str, str]

    def count(self, name: str) -> int:
        return int(self.values[name])


class Process:
    """A process and what it says."""

    def __init__(self, command: Sequence[str], log: Path, **options: Any) -> None:
        self._log = log
        with log.open("wb") as file:
            self._popen = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, **options
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def exit_code(self, timeout: float = PATIENCE) -> int:
        """Waits for the end; what does not end is killed with its children, the test fails."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
            pytest.fail(f"process did not end within {timeout:g} s; its log:\n{self.log}")


class Graph:
    """One test's namespace, with a node that watches it; ends whatever was started in it."""

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
        self._spin(self.node, SingleThreadedExecutor())

    def name(self, relative: str) -> str:
        return f"{self.namespace}/{relative}"

    def start_detector(self, parameters: Mapping[str, Any]) -> DetectorNode:
        """A detector in this process, spun as in one of its own (`ssd_ros.ros.process.run`)."""
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        node = DetectorNode(namespace=self.namespace, parameter_overrides=overrides)
        self._started.callback(node.destroy_node)
        self._started.callback(node.close)
        node.start()
        self._spin(node, MultiThreadedExecutor(2))
        return node

    def start_process(
        self, module: str, parameters: Mapping[str, Any], namespace: str | None = None
    ) -> Process:
        """A node as `ros2 run` starts it, in the test's namespace or in another."""
        command = [sys.executable, "-m", module, "--ros-args"]
        command += ["-r", f"__ns:={namespace or self.namespace}"]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={json.dumps(value)}"]
        return self.start_command(command, cwd=ROOT)

    def start_command(self, command: Sequence[str], **options: Any) -> Process:
        """Any process, ended with the test; options as of subprocess.Popen."""
        log = self._folder / f"{len(self._processes)}.log"
        self._processes.append(Process(command, log, **options))
        return self._processes[-1]

    def hear(self, kind: type[T], topic: str, qos: QoSProfile | int = 1000) -> list[T]:
        """A list that grows with every message of a topic; a busy machine makes many wait."""
        heard: list[T] = []
        self.node.create_subscription(kind, topic, heard.append, qos)
        return heard

    def logged(self, text: str) -> list[str]:
        """What the test's nodes have logged so far that holds this text, from /rosout."""
        own = f"{self.namespace.strip('/')}."
        return [line.msg for line in self._log if line.name.startswith(own) and text in line.msg]

    def wait_for_log(self, text: str) -> str:
        """The first such line, once it is there."""
        return wait_for(lambda: self.logged(text), f"'{text}' in the log")[0]

    def status(self, name: str) -> Status:
        """What /diagnostics said last about `detector` or `detector: TOPIC`."""
        return wait_for(lambda: self.diagnostics.get(self.name(name)), f"the status of {name}")

    def camera_status(self, topic: str = "image_raw", **at_least: int) -> Status:
        """What /diagnostics says about a camera once its counts are so high."""

        def high_enough() -> Status | None:
            status = self.status(f"detector: {self.name(topic)}")
            reached = all(status.count(name) >= count for name, count in at_least.items())
            return status if reached else None

        return wait_for(high_enough, f"{at_least} in /diagnostics")

    def next_diagnostics(self, count: int = 1) -> None:
        """Waits until the nodes have looked after themselves once more: they do so each second."""
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


class Services:
    """A node's parameter and lifecycle services, as `ros2 param` and `ros2 lifecycle` use them."""

    def __init__(self, graph: Graph, name: str = "detector") -> None:
        self._node = graph.node
        self._name = graph.name(name)
        self._clients: dict[str, Any] = {}

    def set(self, name: str, value: Any) -> SetParametersResult:
        future = self.begin_set(name, value)
        wait_for(future.done, f"an answer to setting {name}")
        return future.result().results[0]

    def begin_set(self, name: str, value: Any) -> Future:
        message = Parameter(name, value=value).to_parameter_msg()
        return self._begin(SetParameters, "set_parameters", parameters=[message])

    def set_together(self, **values: Any) -> SetParametersResult:
        messages = [
            Parameter(name, value=value).to_parameter_msg() for name, value in values.items()
        ]
        return self._call(
            SetParametersAtomically, "set_parameters_atomically", parameters=messages
        ).result

    def get(self, name: str) -> Any:
        values = self._call(GetParameters, "get_parameters", names=[name]).values
        return parameter_value_to_python(values[0])

    def change(self, transition: str) -> bool:
        wanted = Transition(label=transition)
        return self._call(ChangeState, "change_state", transition=wanted).success

    @property
    def state(self) -> str:
        return self._call(GetState, "get_state").current_state.label

    def enable(self, wanted: bool) -> SetBool.Response:
        return self._call(SetBool, "enable", data=wanted)

    def _call(self, kind: Any, service: str, **request: Any) -> Any:
        future = self._begin(kind, service, **request)
        wait_for(future.done, f"an answer of {self._name}/{service}")
        return future.result()

    def _begin(self, kind: Any, service: str, **request: Any) -> Future:
        if service not in self._clients:
            self._clients[service] = self._node.create_client(kind, f"{self._name}/{service}")
        client = self._clients[service]
        wait_for(client.service_is_ready, f"service {self._name}/{service}")
        return client.call_async(kind.Request(**request))


class PlayedCamera:
    """A camera that the test plays: it sends images and hears what was detected in them."""

    def __init__(
        self,
        graph: Graph,
        topic: str = "image_raw",
        compressed: bool = False,
        reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE,
        frame_id: str = "camera",
    ) -> None:
        self._graph = graph
        self._frame_id = frame_id
        self._newest = 0
        self.sent: list[Stamp] = []
        self.topic = graph.name(f"{topic}/compressed" if compressed else topic)
        outputs = graph.name(topic).rpartition("/")[0]
        self.detections: list[Detection2DArray] = graph.hear(
            Detection2DArray, f"{outputs}/detections"
        )
        self.kind = CompressedImage if compressed else ImageMsg
        self.publisher = graph.node.create_publisher(
            self.kind, self.topic, QoSProfile(depth=10, reliability=reliability)
        )

    def header(self) -> Header:
        """Of a frame taken now, later than all frames before."""
        now = self._graph.node.get_clock().now().nanoseconds
        self._newest = max(now, self._newest + 1)
        seconds, nanoseconds = divmod(self._newest, 10**9)
        header = Header(frame_id=self._frame_id)
        header.stamp.sec, header.stamp.nanosec = seconds, nanoseconds
        return header

    def send(self, image: np.ndarray, header: Header | None = None) -> Stamp:
        """Publishes an image, taken now unless a header says something else."""
        message = self.kind(header=header or self.header())
        if self.kind is ImageMsg:
            fill_image(message, image, "bgr8")
        else:
            message.format = "bgr8; jpeg compressed bgr8"
            message.data = as_array(cv2.imencode(".jpg", image)[1])
        self.sent.append(stamp_of(message.header))
        self.publisher.publish(message)
        return self.sent[-1]

    @property
    def subscribed(self) -> list[ReliabilityPolicy]:
        """Reliabilities of the subscriptions to the camera's topic."""
        infos = self._graph.node.get_subscriptions_info_by_topic(self.topic)
        return [info.qos_profile.reliability for info in infos]

    def wait_for_subscribers(self, count: int) -> None:
        wait_for(
            lambda: self.publisher.get_subscription_count() == count,
            f"{count} subscriptions to {self.topic}",
        )

    def detect(self, image: np.ndarray, header: Header | None = None) -> Detection2DArray:
        """What the detector finds in an image; sent anew where it was lost or superseded."""
        sent: set[Stamp] = set()
        resend = 0.0

        def answer() -> Detection2DArray | None:
            nonlocal resend
            if time.monotonic() > resend:
                sent.add(self.send(image, header))
                resend = time.monotonic() + 1.0
            return next((d for d in self.detections if stamp_of(d.header) in sent), None)

        return wait_for(answer, f"detections in an image on {self.topic}")

    def stream(self, image: np.ndarray, rate: float = 30.0) -> None:
        """Sends an image again and again, until the test ends."""
        self._graph.node.create_timer(1 / rate, lambda: self.send(image))

    def answered(self, stamp: Stamp) -> bool:
        return any(stamp_of(message.header) == stamp for message in self.detections)

    def wait_for_answer(self, stamp: Stamp) -> None:
        wait_for(lambda: self.answered(stamp), f"detections in an image on {self.topic}")


class Gate:
    """Holds every detector of this process before its next batch while it is closed.

    Attributes:
        held: whether a batch waits at the closed gate.
        batches: how many images each batch had that went through.
    """

    def __init__(self) -> None:
        self.held = False
        self.batches: list[int] = []
        self._opened = threading.Event()
        self.open()

    def open(self) -> None:
        self._opened.set()

    def close(self) -> None:
        self._opened.clear()

    def guard(self, detect: Callable[..., T]) -> Callable[..., T]:
        """The function that does what `detect` does, once the gate is open."""

        def detect_when_open(detector: Detector, images: Sequence[Image]) -> T:
            self.held = not self._opened.is_set()
            self._opened.wait()
            self.held = False
            self.batches.append(len(images))
            return detect(detector, images)

        return detect_when_open


def names_in(message: Detection2DArray) -> list[str]:
    """Class names of the detections, best first."""
    return [found.results[0].hypothesis.class_id for found in message.detections]


def scores_in(message: Detection2DArray) -> list[float]:
    return [found.results[0].hypothesis.score for found in message.detections]


def boxes_in(message: Detection2DArray) -> np.ndarray:
    """Boxes (N, 4) as x1 y1 x2 y2."""
    boxes = [
        (box.center.position.x, box.center.position.y, box.size_x, box.size_y)
        for box in (found.bbox for found in message.detections)
    ]
    x, y, width, height = np.array(boxes).reshape(-1, 4).T
    return np.stack((x - width / 2, y - height / 2, x + width / 2, y + height / 2), axis=1)


def made_image(seed: int, width: int, height: int) -> np.ndarray:
    """Shapes on a noisy gradient, BGR."""
    generator = np.random.default_rng(seed)
    across = np.linspace(0, 255, width)[None, :, None] * generator.random(3)
    down = np.linspace(0, 255, height)[:, None, None] * generator.random(3)
    noise = generator.normal(0, 12, (height, width, 3))
    image = np.clip((across + down) / 2 + noise, 0, 255).astype(np.uint8)
    for i in range(8):
        x, y = (int(generator.integers(size)) for size in (width, height))
        colour = tuple(generator.integers(0, 256, 3).tolist())
        size = int(generator.integers(5, min(width, height) // 3))
        if i % 2:
            cv2.circle(image, (x, y), size, colour, cv2.FILLED)
        else:
            cv2.rectangle(image, (x, y), (x + 2 * size, y + size), colour, cv2.FILLED)
    return image


def write_random_weights(
    path: Path, seed: int, classes: Sequence[str], width: float = 0.0625
) -> Path:
    """Weights that find something anywhere: some twenty boxes with scores of 0.5 to 0.95."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SSD300(len(classes), width)
    with torch.no_grad():
        for head in model.scores:
            head.weight *= 0.3
            head.bias[:: len(classes) + 1] += 5  # the background's
    write(path, Weights(model.state_dict(), tuple(classes), model.config))
    return path


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A weights file that knows CLASSES."""
    folder = tmp_path_factory.mktemp("weights")
    return str(write_random_weights(folder / "some.safetensors", 1, CLASSES))


@pytest.fixture(scope="session")
def other_weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A weights file that knows OTHER_CLASSES."""
    folder = tmp_path_factory.mktemp("weights")
    return str(write_random_weights(folder / "other.safetensors", 4, OTHER_CLASSES))


@pytest.fixture(scope="session")
def images() -> list[np.ndarray]:
    """Images of different content and size, BGR."""
    sizes = ((320, 240), (200, 300), (640, 480), (97, 113), (500, 375))
    return [made_image(seed, *size) for seed, size in enumerate(sizes)]


@pytest.fixture(scope="session")
def image_folder(images: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images as files without loss."""
    folder = tmp_path_factory.mktemp("images")
    for i, image in enumerate(images):
        image_files.write(folder / f"{i}.png", image)
    return folder


@pytest.fixture(scope="session")
def rclpy_started() -> Iterator[None]:
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    yield
    rclpy.shutdown()


_numbers = itertools.count(1)


@pytest.fixture
def graph(rclpy_started: None, tmp_path: Path) -> Iterator[Graph]:
    corner = Graph(f"/test_{next(_numbers)}", tmp_path)
    yield corner
    corner.close()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setattr(Detector, "__call__", gate.guard(Detector.__call__))
    yield gate
    gate.open()
