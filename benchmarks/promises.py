# SPDX-License-Identifier: Apache-2.0
"""What the node promises about time, held against what this machine can do.

    python benchmarks/promises.py [--rounds 5] [--only latency fairness] [--json OUT]

Every limit is a multiple of what the bare detector takes in the same run, so that it means the same
on a fast and on a slow machine: `inference`, one image in memory to boxes, and `start`, a
process from its start to its end that loads the detector and runs it once. Ends with exit code 1
where a promise is not kept. Wants a machine with no other work; takes about eight minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from camera import RELIABILITIES, TRANSPORTS, image_of
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from running_node import Camera, Listener, detector_command, listening, running, start_ros, wait_for
from std_srvs.srv import SetBool

from ssd_ros import atomic
from ssd_ros.detector import Detector
from ssd_ros.image import Image
from ssd_ros.ros import dds_profile
from ssd_ros.ros.process import child

ANNOUNCEMENT = 0.4  # seconds between two announcements of a process, by config/fastdds.xml
LOST_WINDOW = 10.0  # seconds of stamps that the node judges together
START = """
import sys
from ssd_ros.detector import Detector
Detector(sys.argv[1]).warm_up()
"""


@dataclass(frozen=True)
class Machine:
    """What this machine can do, measured with the bare detector; seconds."""

    inference: float
    start: float


@dataclass(frozen=True)
class Result:
    """A promise and what was measured; `limit` is the most, or the least where `at_least`."""

    promise: str
    measured: float
    limit: float
    unit: str
    at_least: bool = False

    @property
    def kept(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def __str__(self) -> str:
        word = "at least" if self.at_least else "at most"
        return (
            f"{'kept' if self.kept else 'BROKEN':7} {self.promise}: {self.measured:.3g} "
            f"{self.unit}, {word} {self.limit:.3g}"
        )


def inference_time(weights: str, count: int = 20) -> float:
    """Seconds of the bare detector for an image of 640x480: of three medians the smallest."""
    detector, image = Detector(weights), Image(image_of((640, 480)))
    detector([image])
    medians = []
    for _ in range(3):
        times = []
        for _ in range(count):
            begin = time.perf_counter()
            detector([image])
            times.append(time.perf_counter() - begin)
        medians.append(statistics.median(times))
    return min(medians)


def start_time(weights: str) -> float:
    """Seconds of a process that loads the bare detector and runs it once."""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", START, weights], check=True)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


# --- one function for each promise ----------------------------------------------------------------


def ending(machine: Machine, options: argparse.Namespace) -> Iterator[Result]:
    """A signal ends the node from every state."""
    states = ("loading", "unconfigured", "inactive", "active", "paused", "swapping")
    for state, number in itertools.product(states, (signal.SIGINT, signal.SIGTERM)):
        times = [_time_to_end(state, number, options) for _ in range(options.rounds)]
        promise = f"{number.name} ends the node while {state}"
        yield Result(promise, max(times), 0.4 * machine.start, "s")


def _time_to_end(state: str, number: signal.Signals, options: argparse.Namespace) -> float:
    waits = state in ("unconfigured", "inactive")
    camera = Camera(rate=100.0)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listening(1))
        command = camera.command("/benchmark/camera0")
        stack.enter_context(child(command, stdout=subprocess.DEVNULL))
        parameters = {"autostart": not waits}
        command = detector_command(1, camera.transport, options.weights, parameters)
        detector = stack.enter_context(child(command))
        if state == "loading":
            name = ("detector", listener.get_namespace())
            wait_for(lambda: name in listener.get_node_names_and_namespaces(), "the node")
        elif not waits:
            wait_for(lambda: len(listener.heard[0].latencies) > 5, "detections")
        if waits:  # an answer comes from this process; a name may still be that of the one before
            listener.call(GetState, "get_state")
        if state == "inactive":
            configure = Transition(label="configure")
            listener.call(ChangeState, "change_state", transition=configure)
        if state == "paused":
            listener.call(SetBool, "enable", data=False)
        if state == "swapping":
            _begin_swap(listener, options.weights)
        begin = time.monotonic()
        detector.send_signal(number)
        wait_for(lambda: detector.poll() is not None, f"the end while {state}")
        if detector.returncode:
            raise RuntimeError(f"exit code {detector.returncode} at {number.name} while {state}")
        return time.monotonic() - begin


def _begin_swap(listener: Listener, weights: str) -> Any:
    message = Parameter("weights", value=weights).to_parameter_msg()
    return listener.request(SetParameters, "set_parameters", parameters=[message])


def restart(machine: Machine, options: argparse.Namespace) -> Iterator[Result]:
    """A camera that was killed and started again is heard soon after its first image."""
    for kind, reliability in itertools.product(TRANSPORTS, RELIABILITIES):
        camera = Camera(transport=kind, reliability=reliability)
        times = []
        with listening(1) as listener, child(detector_command(1, kind, options.weights, {})):
            for _ in range(options.rounds + 1):
                listener.forget()
                command = camera.command("/benchmark/camera0")
                with child(command, stdout=subprocess.PIPE) as source:
                    assert source.stdout is not None
                    first = float(source.stdout.readline())
                    stamps = listener.heard[0].stamps
                    wait_for(lambda s=stamps: s, "a detection")  # type: ignore[misc]
                    times.append(stamps[0] - first)
                    source.kill()
                    source.wait()
        limit = 2 * ANNOUNCEMENT + 5 * machine.inference
        promise = f"first answered image of a restarted camera, {kind}, {reliability}"
        yield Result(promise, max(times[1:]), limit, "s after its first")


def latency(machine: Machine, options: argparse.Namespace) -> Iterator[Result]:
    """From the arrival of an image to the publication of its detections, at any rate."""
    for rate in (5.0, 30.0, 100.0, 400.0):
        with running([Camera(rate=rate)], options.weights) as (listener, _):
            time.sleep(5)
            listener.wait_for_diagnostics()
            heard = listener.heard[0]
            measured = float(heard.values["arrival to publication median (ms)"])
        if heard.stamps != sorted(set(heard.stamps)):
            raise RuntimeError("detections came twice, or in the wrong order")
        promise = f"latency with a camera of {rate:g} Hz"
        yield Result(promise, measured, 4e3 * machine.inference, "ms")


def fairness(machine: Machine, options: argparse.Namespace) -> Iterator[Result]:
    """A slow camera is not starved by a fast one, and equal cameras are answered equally."""
    slow = Camera(rate=min(3.0, 1 / (8 * machine.inference)))
    with running([Camera(rate=200.0), slow], options.weights) as (listener, _):
        listener.wait_for_diagnostics()
        before = dict(listener.heard[1].values)
        time.sleep(20 / slow.rate)
        listener.wait_for_diagnostics()
        after = listener.heard[1]
    received, processed = (
        after.count(name) - int(before[name]) for name in ("received", "processed")
    )
    promise = f"processed of a camera of {slow.rate:.1f} Hz beside one of 200 Hz"
    yield Result(promise, processed / received, 0.9, "of what was received", at_least=True)

    with running([Camera()] * 4, options.weights) as (listener, _):
        time.sleep(15)
        counts = [len(heard.stamps) for heard in listener.heard]
    promise = "most answered of four equal cameras"
    yield Result(promise, max(counts) / min(counts), 1.2, "x the least answered")


def swapping(machine: Machine, options: argparse.Namespace) -> Iterator[Result]:
    """While new weights load, images are answered."""
    gaps = []
    with running([Camera()], options.weights) as (listener, _):
        for _ in range(options.rounds):
            future = _begin_swap(listener, options.weights)
            wait_for(future.done, "the swap")
            if not future.result().results[0].successful:
                raise RuntimeError(future.result().results[0].reason)
        stamps = listener.heard[0].stamps
        gaps = [b - a for a, b in itertools.pairwise(stamps)]
    promise = "longest time between two answered images during swaps"
    yield Result(promise, max(gaps), 0.1 + 10 * machine.inference, "s")


def delivery(machine: Machine, options: argparse.Namespace) -> Iterator[Result]:
    """With the shipped profile every image arrives; without it the node tells of the loss."""
    sizes = ((640, 480), (1920, 1080))
    for size, reliability in itertools.product(sizes, RELIABILITIES):
        topic = "/benchmark/camera0/image_raw"
        # With the node's own depth of 1 an image may replace the one before in DDS, uncounted.
        parameters = {f"qos_overrides.{topic}.subscription.depth": 10}
        with listening(1) as listener:
            command = detector_command(1, "raw", options.weights, parameters)
            with child(command):
                camera = Camera(size=size, reliability=reliability).command("/benchmark/camera0")
                with child([*camera, "--count", "300"], stdout=subprocess.DEVNULL) as source:
                    wait_for(lambda s=source: s.poll() is not None, "300 images")  # type: ignore[misc]
                listener.wait_for_diagnostics()
        received = listener.heard[0].count("received")
        promise = f"arrived of 300 images of {size[0]}x{size[1]}, {reliability}"
        yield Result(promise, received, 300, "images", at_least=True)

    with tempfile.TemporaryFile("w+") as log, listening(1) as listener:
        command = ["env", *(f"--unset={name}" for name in dds_profile.PROFILE_VARIABLES)]
        command += detector_command(1, "raw", options.weights, {})
        with child(command, stderr=log):
            camera = ["env", *(f"--unset={name}" for name in dds_profile.PROFILE_VARIABLES)]
            camera += Camera().command("/benchmark/camera0")
            with child(camera, stdout=subprocess.PIPE) as source:
                assert source.stdout is not None
                source.stdout.readline()
                begin = time.monotonic()
                wait_for(lambda: re.search("are lost in transport", _text(log)), "the report")
                took = time.monotonic() - begin
    yield Result("the node tells of lost images without the profile", took, LOST_WINDOW, "s")


def _text(log: Any) -> str:
    log.seek(0)
    return str(log.read())


def evaluation(machine: Machine, options: argparse.Namespace) -> Iterator[Result]:
    """Average precision of as many detections as VOC2007 has, 4,952 x 200."""
    sys.path.append(str(Path(__file__).parents[1]))  # training/ is not installed
    from training.evaluation import voc_ap

    rng = np.random.default_rng(0)
    images, objects, found = 4952, 3, 200
    corner, size = (
        rng.uniform(0, 80, (images * objects, 2)),
        rng.uniform(5, 40, (images * objects, 2)),
    )
    boxes = np.concatenate((corner, corner + size), axis=1)
    labels = rng.integers(0, 20, len(boxes))
    there = voc_ap.GroundTruth(
        np.repeat(np.arange(images), objects), labels, boxes, rng.random(len(boxes)) < 0.15
    )
    source = rng.integers(0, len(boxes), images * found)
    near = boxes[source] + rng.normal(0, 2, (len(source), 4))
    scored = voc_ap.Predictions(
        there.image_index[source], labels[source], near, rng.random(len(source))
    )
    begin = time.perf_counter()
    voc_ap.evaluate(scored, there, 20)
    took = time.perf_counter() - begin
    promise = "average precision of a data set as large as VOC2007"
    yield Result(promise, took, 100 * machine.inference, "s")


def busy(machine: Machine, options: argparse.Namespace) -> Iterator[Result]:
    """The bare detector beside processes that take what they get of both cores."""
    spin = [sys.executable, "-c", "while True: pass"]
    with child(spin), child(spin):
        measured = inference_time(options.weights)
    promise = "inference beside two busy processes"
    yield Result(promise, measured / machine.inference, 4, "x as long as alone")


PROMISES: dict[str, Callable[[Machine, argparse.Namespace], Iterator[Result]]] = {
    "busy": busy,
    "evaluation": evaluation,
    "latency": latency,
    "fairness": fairness,
    "swapping": swapping,
    "restart": restart,
    "ending": ending,
    "delivery": delivery,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", default="demo", help="weights file, default: %(default)s")
    add("--rounds", type=int, default=3, help="repetitions where one tells little, default: 3")
    add("--only", nargs="+", choices=tuple(PROMISES), help="these promises alone", default=PROMISES)
    add("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    start_ros(profile=True)
    machine = Machine(inference_time(options.weights), start_time(options.weights))
    print(f"bare detector: inference {1e3 * machine.inference:.1f} ms, start {machine.start:.1f} s")
    results = []
    for name in options.only:
        for result in PROMISES[name](machine, options):
            print(result, flush=True)
            results.append(result)
    rclpy.shutdown()
    if options.json:
        content = {"machine": asdict(machine), "results": [asdict(result) for result in results]}
        atomic.write(options.json, (json.dumps(content, indent=2) + "\n").encode())
    broken = sum(not result.kept for result in results)
    print(f"{len(results) - broken} promises kept, {broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
