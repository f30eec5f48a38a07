# SPDX-License-Identifier: Apache-2.0
"""Attacks a detector node from all sides at once, as several clients and cameras would by mistake.

Each attacker is a thread that repeats random steps. Its steps depend on the seed alone, their
interleaving on the machine.
"""

import os
import random
import signal
import struct
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bad_messages import BROKEN
from graph import Graph
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from made_images import jpeg_of_many_scans, made_image
from played_camera import PlayedCamera
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters, SetParametersAtomically
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from services import Services
from std_srvs.srv import SetBool
from waiting import wait_for

from ssd_ros.ros.parameter_table import DETECTOR

TOPICS = ("front/image_raw", "rear/image_raw", "left", "right")
# These end the life of a node, as asked for: they are no attack.
SHUTDOWNS = {5, 6, 7}
LABELS = ("configure", "activate", "deactivate", "cleanup", "no such", "", "transition_error", "☃")
STRINGS = ("", "auto", "cpu", "raw", "compressed", "fp32", "reliable", "a b", "\x1b[2J", "☃" * 300)


class Storm:
    """All attackers on one node.

    Args:
        graph: the node's namespace.
        seed: of all random numbers.
        weights: files of two models, the first of which the node began with.
        folder: for weights files of other kinds.
    """

    def __init__(self, graph: Graph, seed: int, weights: Sequence[str], folder: Path) -> None:
        self.graph = graph
        self.seed = seed
        self.steps: dict[str, int] = {}
        self.longest = ("", 0.0)  # service and seconds of the slowest answer
        self._weights = weights
        self._folder = folder
        self._round = 0
        self._failures: list[BaseException] = []
        self._stopping = threading.Event()
        self._image = made_image(seed, 320, 240)
        self._topics = [graph.name(topic) for topic in TOPICS]

    def rage(self, seconds: float) -> None:
        """Runs all attackers for so long, then raises what one of them has found."""
        self._round += 1
        self._stopping.clear()
        attackers: dict[str, Callable[[random.Random], Callable[[], None]]] = {
            **{f"camera {topic}": self._camera(topic) for topic in TOPICS[:3]},
            "camera process": self._camera_process,
            "weights": self._swap_weights,
            "clock": self._play_clock,
            **{f"transitions {n}": self._transitions for n in range(3)},
            **{f"parameters {n}": self._parameters for n in range(2)},
        }
        threads = [
            threading.Thread(target=self._repeat, args=(name, make), name=name)
            for name, make in attackers.items()
        ]
        for thread in threads:
            thread.start()
        try:
            self._stopping.wait(seconds)
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join()
        if self._failures:
            raise self._failures[0]

    def _repeat(self, name: str, make: Callable[[random.Random], Callable[[], None]]) -> None:
        try:
            step = make(random.Random(f"{self.seed} {self._round} {name}"))
            self.steps[name] = 0
            while not self._stopping.is_set():
                step()
                self.steps[name] += 1
        except BaseException as error:  # raised by `rage`, also of pytest.fail
            self._failures.append(error)
            self._stopping.set()

    def _ask(self, node: Services, kind: Any, service: str, **request: Any) -> Any:
        start = time.monotonic()
        answer = node.call(kind, service, **request)
        self.longest = max(self.longest, (service, time.monotonic() - start), key=lambda x: x[1])
        return answer

    # --- attackers ----------------------------------------------------------------------------

    def _camera(self, topic: str) -> Callable[[random.Random], Callable[[], None]]:
        """A camera of both transports that sends good and broken images, and starts anew."""

        def make(chance: random.Random) -> Callable[[], None]:
            cameras = {
                transport: PlayedCamera(self.graph, topic, transport == "compressed")
                for transport in ("raw", "compressed")
            }

            def step() -> None:
                transport = chance.choice(tuple(cameras))
                if chance.random() < 0.01:
                    self._restart(cameras[transport], chance.random() < 0.5)
                self._send(chance, cameras[transport], transport)
                time.sleep(chance.choice((0.0, 0.01, 0.05)))

            return step

        return make

    def _restart(self, camera: PlayedCamera, reliable: bool) -> None:
        policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        self.graph.node.destroy_publisher(camera.publisher)
        camera.publisher = self.graph.node.create_publisher(
            camera.kind, camera.topic, QoSProfile(depth=10, reliability=policy)
        )

    def _send(self, chance: random.Random, camera: PlayedCamera, transport: str) -> None:
        kind = chance.random()
        if kind < 0.4:
            camera.send(self._image)
            del camera.sent[:-100], camera.detections[:-100]
        elif kind < 0.5:  # no message of this type at all
            camera.publisher.publish(b"\x00\x01\x00\x00" + chance.randbytes(chance.randrange(300)))
        else:
            message = BROKEN[transport](chance)
            if transport == "compressed" and kind < 0.52:
                scans = chance.choice((200, 900, 2000))
                message.data = jpeg_of_many_scans(1000, 700, scans)
            message.header = camera.header()
            message.header.stamp.sec = chance.choice((message.header.stamp.sec, 0, -(2**31)))
            camera.publisher.publish(message)

    def _camera_process(self, chance: random.Random) -> Callable[[], None]:
        """A camera that is killed at any moment, and restarted."""
        folder = self._folder / "images"
        folder.mkdir(exist_ok=True)
        (folder / "0.ppm").write_bytes(b"P6 320 240 255\n" + self._image.tobytes())
        parameters = {"source": str(folder), "transport": "both"}

        def step() -> None:
            source = self.graph.start_process(
                "ssd_ros.ros.image_source_node", parameters, self.graph.name("right_camera")
            )
            self._stopping.wait(chance.uniform(1, 8))
            source.send(chance.choice((signal.SIGKILL, signal.SIGTERM)))
            source.exit_code()

        return step

    def _swap_weights(self, chance: random.Random) -> Callable[[], None]:
        node, file = Services(self.graph), self._folder / "weights.safetensors"
        fifo = self._folder / f"fifo {self._round}"
        os.mkfifo(fifo)

        def step() -> None:
            no_files = str(self._folder), str(fifo), "/dev/zero", "/dev/full", "\x1b[2J", "☃"
            path = chance.choice((*self._weights, *[str(file)] * 4, chance.choice(no_files)))
            if path == str(file):
                write_weights(chance, Path(self._weights[0]).read_bytes(), file)
            future = node.begin_set("weights", path)
            if chance.random() < 0.5:
                file.unlink(missing_ok=True)
            wait_for(future.done, "an answer to new weights")
            self._stopping.wait(chance.choice((0.0, 0.1, 1.0)))

        return step

    def _play_clock(self, chance: random.Random) -> Callable[[], None]:
        publisher = self.graph.node.create_publisher(Clock, "/clock", 10)
        now = 1000.0

        def step() -> None:
            nonlocal now
            kind = chance.random()
            if kind < 0.02:  # stopped
                self._stopping.wait(2.0)
            elif kind < 0.05:  # turned back or forward
                now = chance.choice((0.0, 1.0, 1e3, 2e9))
            message = Clock()
            message.clock.sec = int(now) if kind > 0.01 else chance.choice((-1, -(2**31)))
            message.clock.nanosec = int(now % 1 * 1e9)
            publisher.publish(message)
            now += 0.05
            self._stopping.wait(0.05)

        return step

    def _transitions(self, chance: random.Random) -> Callable[[], None]:
        node = Services(self.graph)
        likely = ("configure", "activate", "configure", "activate", "deactivate", "cleanup")

        def step() -> None:
            kind = chance.random()
            if kind < 0.1:  # as others allow: with the other transport
                for label in ("deactivate", "cleanup"):
                    node.change(label)
                node.set("image_transport", chance.choice(("raw", "compressed")))
                for label in ("configure", "activate"):
                    node.change(label)
            elif kind < 0.35:
                number = chance.choice([n for n in range(256) if n not in SHUTDOWNS])
                self._ask(node, ChangeState, "change_state", transition=Transition(id=number))
            elif kind < 0.7:
                label = chance.choice((*likely, *LABELS))
                # The label wins; without one it is the id, and 0 is no transition.
                self._ask(node, ChangeState, "change_state", transition=Transition(label=label))
            elif kind < 0.9:
                self._ask(node, SetBool, "enable", data=chance.random() < 0.7)
            else:
                self._ask(node, GetState, "get_state")
            self._stopping.wait(chance.choice((0.0, 0.05, 0.3)))

        return step

    def _parameters(self, chance: random.Random) -> Callable[[], None]:
        node = Services(self.graph)

        def step() -> None:
            messages = [self._any_parameter(chance) for _ in range(chance.choice((1, 1, 3)))]
            if chance.random() < 0.5:
                answer = self._ask(node, SetParameters, "set_parameters", parameters=messages)
                assert len(answer.results) == len(messages)
            else:
                service = "set_parameters_atomically"
                self._ask(node, SetParametersAtomically, service, parameters=messages)
            if chance.random() < 0.2:
                self._ask(node, GetParameters, "get_parameters", names=["threads", "no such"])
                self._ask(node, ListParameters, "list_parameters")
            self._stopping.wait(chance.choice((0.0, 0.05, 0.2)))

        return step

    def _any_parameter(self, chance: random.Random) -> ParameterMsg:
        """Any parameter of any type and value; not those that would only take long."""
        reliability = f"qos_overrides.{chance.choice(self._topics)}.subscription.reliability"
        names = (*DETECTOR, reliability, "use_sim_time", "no such", "")
        name = chance.choice([name for name in names if name not in ("weights", "backend")])
        value = ParameterValue(type=chance.choice((*range(1, 10), 1, 2, 3, 4, 9, 9, 0, 10, 255)))
        value.bool_value = chance.random() < 0.5
        value.integer_value = chance.choice((0, 1, 2, -1, 2**63 - 1, -(2**63)))
        value.double_value = chance.choice((0.0, 0.3, 0.5, 1.0, -1.0, 1e300, np.nan, np.inf))
        value.string_value = chance.choice(STRINGS)
        size = chance.randrange(4)
        value.byte_array_value = [bytes([chance.randrange(256)]) for _ in range(size)]
        value.bool_array_value = [True] * size
        value.integer_array_value = [chance.randrange(100) for _ in range(size)]
        value.double_array_value = [chance.random() for _ in range(size)]
        value.string_array_value = chance.choices((*self._topics, *TOPICS, *STRINGS), k=size)
        return ParameterMsg(name=name, value=value)


def write_weights(chance: random.Random, good: bytes, file: Path) -> None:
    """Writes a weights file, which is good or bad, in place or not."""
    header = struct.unpack("<Q", good[:8])[0]
    kind = chance.randrange(7)
    damaged = bytearray(good)
    for _ in range(10):
        damaged[chance.randrange(8 + header)] = chance.randrange(256)
    content = (
        good,
        good[: chance.randrange(len(good))],
        bytes(damaged),
        b"",
        chance.randbytes(2000),
        struct.pack("<Q", 2 ** chance.randrange(64)) + good[8:],
        b"PK\x03\x04" + good,
    )[kind]
    if chance.random() < 0.5:
        file.write_bytes(content)
    else:
        other = file.with_suffix(".new")
        other.write_bytes(content)
        os.replace(other, file)
