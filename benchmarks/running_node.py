# SPDX-License-Identifier: Apache-2.0
"""The running node as a robot would run it: cameras, detector and listener as processes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from vision_msgs.msg import Detection2DArray

from ssd_ros.ros import dds_profile, malloc
from ssd_ros.ros.frames import stamp_ns
from ssd_ros.ros.process import child

NAMESPACE = "/benchmark"
PATIENCE = 120.0  # seconds after which something hangs
# The node where PyTorch is not installed, as on a robot with OpenVINO.
WITHOUT_PYTORCH = """
import runpy, sys
sys.modules["torch"] = sys.modules["torchvision"] = None
runpy.run_module("ssd_ros.ros.detector_node", run_name="__main__", alter_sys=True)
"""
T = TypeVar("T")


@dataclass(frozen=True)
class Cores:
    """Numbers of the cores of the node, and of cameras and listener; empty for all."""

    node: frozenset[int] = frozenset()
    others: frozenset[int] = frozenset()


ALL = Cores()


@dataclass(frozen=True)
class Camera:
    """What one camera sends; see benchmarks/camera.py."""

    size: tuple[int, int] = (640, 480)
    transport: str = "raw"
    rate: float = 30.0
    reliability: str = "best_effort"

    def command(self, namespace: str) -> list[str]:
        size = "x".join(map(str, self.size))
        return [
            sys.executable, str(Path(__file__).with_name("camera.py")), "--namespace", namespace,
            "--size", size, "--transport", self.transport, "--rate", str(self.rate),
            "--reliability", self.reliability,
        ]  # fmt: skip


@dataclass
class Heard:
    """What arrived from one camera.

    Attributes:
        stamps: of the frames, in seconds.
        latencies: seconds from those stamps to the arrival of the detections.
        values: the camera's line in /diagnostics.
    """

    stamps: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)

    def count(self, name: str) -> int:
        return int(self.values.get(name, 0))


class Listener(Node):
    """Takes the time of detections as they arrive."""

    def __init__(self, cameras: int) -> None:
        super().__init__("listener", namespace=NAMESPACE)
        self.heard = [Heard() for _ in range(cameras)]
        self.inference_ms = 0.0  # the node's own median
        self.diagnostics = 0  # messages that came
        for i, heard in enumerate(self.heard):
            self.create_subscription(
                Detection2DArray,
                f"camera{i}/detections",
                lambda message, heard=heard: self._note(message, heard),
                100,
            )
        self.create_subscription(DiagnosticArray, "/diagnostics", self._diagnose, 10)

    def _note(self, message: Detection2DArray, heard: Heard) -> None:
        now = self.get_clock().now().nanoseconds
        heard.stamps.append(stamp_ns(message) * 1e-9)
        heard.latencies.append((now - stamp_ns(message)) * 1e-9)

    def _diagnose(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            self.inference_ms = float(values.get("inference median (ms)", self.inference_ms))
            for i, heard in enumerate(self.heard):
                if f"/camera{i}/" in status.name:
                    heard.values = values
        self.diagnostics += 1

    def forget(self) -> None:
        for heard in self.heard:
            heard.stamps.clear()
            heard.latencies.clear()

    def wait_for_diagnostics(self) -> None:
        """Until the node has counted once more."""
        enough = self.diagnostics + 2
        wait_for(lambda: self.diagnostics >= enough, "/diagnostics")

    def request(self, kind: Any, service: str, **request: Any) -> Any:
        """A request to one of the detector's services, as a future."""
        client = self.create_client(kind, f"detector/{service}")
        wait_for(client.service_is_ready, service)
        return client.call_async(kind.Request(**request))

    def call(self, kind: Any, service: str, **request: Any) -> Any:
        future = self.request(kind, service, **request)
        wait_for(future.done, f"an answer of {service}")
        return future.result()


def wait_for(condition: Callable[[], T], what: str) -> T:
    """The condition's value as soon as it is true."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {PATIENCE:g} s for {what}")
        time.sleep(0.005)
    return value


def detector_command(
    cameras: int,
    transport: str,
    weights: str,
    parameters: Mapping[str, Any],
    with_pytorch: bool = True,
) -> list[str]:
    """The detector on so many cameras of this transport.

    Args:
        with_pytorch: False hides PyTorch from the process.
    """
    topics = [f"{NAMESPACE}/camera{i}/image_raw" for i in range(cameras)]
    values = {"image_topics": topics, "image_transport": transport, "weights": weights}
    program = ["-m", "ssd_ros.ros.detector_node"] if with_pytorch else ["-c", WITHOUT_PYTORCH]
    command = [sys.executable, *program, "--ros-args", "-r", f"__ns:={NAMESPACE}"]
    command += ["--log-level", "warn"]
    for name, value in {**values, **parameters}.items():
        command += ["-p", f"{name}:={json.dumps(value)}"]
    return command


def start_ros(profile: bool) -> None:
    """Starts ROS in this process as the nodes do.

    Args:
        profile: use config/fastdds.xml, here and in child processes.
    """
    malloc.tune_malloc_for_images()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if profile:
        dds_profile.apply_profile(dds_profile.shipped_profile())
    rclpy.init()


@contextlib.contextmanager
def listening(cameras: int) -> Iterator[Listener]:
    """A listener that is spun in a thread of its own."""
    listener = Listener(cameras)
    executor = SingleThreadedExecutor()
    executor.add_node(listener)
    stopping = threading.Event()

    def spin() -> None:
        while not stopping.is_set():
            executor.spin_once(timeout_sec=0.1)

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield listener
    finally:
        stopping.set()
        thread.join()
        listener.destroy_node()


@contextlib.contextmanager
def on_cores(numbers: Set[int]) -> Iterator[None]:
    """Threads and processes that begin in the block run on these cores only; on all if empty."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, numbers or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def running(
    cameras: Sequence[Camera], weights: str, cores: Cores = ALL, **parameters: Any
) -> Iterator[tuple[Listener, subprocess.Popen[bytes]]]:
    """Cameras, detector and listener at work; the first detections have arrived."""
    command = detector_command(len(cameras), cameras[0].transport, weights, parameters)
    with contextlib.ExitStack() as stack:
        with on_cores(cores.node):
            detector = stack.enter_context(child(command))
        stack.enter_context(on_cores(cores.others))
        listener = stack.enter_context(listening(len(cameras)))
        for i, camera in enumerate(cameras):
            command = camera.command(f"{NAMESPACE}/camera{i}")
            stack.enter_context(child(command, stdout=subprocess.DEVNULL))
        wait_for(lambda: all(h.latencies for h in listener.heard), "detections from every camera")
        time.sleep(1.5)  # everything is warm, and the first diagnostics have come
        listener.forget()
        yield listener, detector
