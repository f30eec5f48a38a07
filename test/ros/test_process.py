# SPDX-License-Identifier: Apache-2.0
"""Nodes as processes: signals end them in every state, and they survive the end of a camera."""

import signal
import sys
import time

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from graph import ROOT
from played_camera import PlayedCamera
from services import Services
from vision_msgs.msg import Detection2DArray
from waiting import wait_for

long = pytest.mark.endurance


@pytest.mark.parametrize(
    ("state", "number"),
    [
        ("loading", signal.SIGINT),
        pytest.param("loading", signal.SIGTERM, marks=long),
        ("unconfigured", signal.SIGINT),
        pytest.param("unconfigured", signal.SIGTERM, marks=long),
        pytest.param("inactive", signal.SIGINT, marks=long),
        pytest.param("inactive", signal.SIGTERM, marks=long),
        ("active", signal.SIGINT),
        ("active", signal.SIGTERM),
        pytest.param("paused", signal.SIGINT, marks=long),
        pytest.param("paused", signal.SIGTERM, marks=long),
        ("swapping", signal.SIGINT),
        pytest.param("swapping", signal.SIGTERM, marks=long),
    ],
)
def test_a_signal_ends_the_node_from_every_state(graph, weights, images, state, number):
    autostart = state not in ("unconfigured", "inactive")
    parameters = {"weights": weights, "device": "cpu", "autostart": autostart}
    detector = graph.start_process("ssd_ros.ros.detector_node", parameters)
    camera, node = PlayedCamera(graph), Services(graph)
    camera.stream(images[2], rate=100)
    if state == "loading":
        known = ("detector", graph.namespace)
        wait_for(lambda: known in graph.node.get_node_names_and_namespaces(), "the node")
    elif not autostart:
        assert node.state == "unconfigured"
    else:
        wait_for(lambda: len(camera.detections) > 5, "the node to work")
    if state == "inactive":
        assert node.change("configure")
    if state == "paused":
        node.enable(False)
    if state == "swapping":
        node.begin_set("weights", weights)
    detector.send(number)
    assert detector.exit_code() == 0, detector.log
    assert "Traceback" not in detector.log


COMMAND = "import sys; from ssd_ros.ros.commands import detector; sys.exit(detector())"
# The node's class, and a signal in the middle of its construction.
CONSTRUCTING = """
import os, signal, sys
from ssd_ros.ros import commands, detector_node
declare = detector_node.declare
def declare_and_signal(*given):
    if given[1] == "weights":
        os.kill(os.getpid(), signal.SIGINT)
    return declare(*given)
detector_node.declare = declare_and_signal
sys.exit(commands.detector())
"""
# A detector that never returns, as one that hangs in a driver.
HANGING = """
import sys, time
from ssd_ros.detector import Detector
from ssd_ros.ros import commands
Detector.warm_up = lambda *_: None
Detector.__call__ = lambda *_: print("hanging", flush=True) or time.sleep(1000)
sys.exit(commands.detector())
"""


def start(graph, program, weights):
    options = ["--ros-args", "-r", f"__ns:={graph.namespace}", "-p", f"weights:={weights}"]
    return graph.start_command([sys.executable, "-c", program, *options], cwd=ROOT)


def ended_quietly(process):
    assert process.exit_code() == 0, process.log
    assert "Traceback" not in process.log
    return True


@pytest.mark.parametrize(
    "arguments", [["-p"], ["-r", "__ns:=/bad-name"], ["--params-file", "/no/such/file"]]
)
def test_arguments_that_ros_cannot_read_are_an_error_without_a_traceback(graph, arguments):
    command = [sys.executable, "-c", COMMAND, "--ros-args", *arguments]
    process = graph.start_command(command, cwd=ROOT)
    assert process.exit_code() == 1
    assert "Traceback" not in process.log
    last = process.log.splitlines()[-1]  # those before are of rcl
    assert last.startswith("detector: ")
    assert arguments[-1] in last


def test_a_signal_while_the_node_is_constructed_ends_it_quietly(graph, weights):
    assert ended_quietly(start(graph, CONSTRUCTING, weights))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_modules_are_imported_ends_the_process_quietly(graph, weights, number):
    process = start(graph, f"import sys\n{COMMAND}", weights)
    maps = f"/proc/{process.pid}/maps"
    wait_for(lambda: "numpy" in open(maps).read(), "the imports")  # noqa: SIM115
    process.send(number)
    assert ended_quietly(process)
    assert not process.log


def test_further_signals_change_nothing(graph, weights, images):
    process = start(graph, COMMAND, weights)
    camera = PlayedCamera(graph)
    camera.stream(images[0])
    wait_for(lambda: camera.detections, "the node to work")
    process.send(signal.SIGTERM)
    while process.alive:
        process.send(signal.SIGINT)
        time.sleep(0.002)
    assert ended_quietly(process)


def test_a_batch_that_never_ends_is_reported_and_does_not_keep_the_process(graph, weights, images):
    process = start(graph, HANGING, weights)
    PlayedCamera(graph).stream(images[0])
    wait_for(lambda: "hanging" in process.log, "a batch that hangs")
    wait_for(lambda: "present batch has been running" in graph.status("detector").summary, "it")
    process.send(signal.SIGTERM)
    assert ended_quietly(process)


def test_what_a_signal_calls_may_wait_for_ever(graph):
    process = graph.start_command([sys.executable, "-c", WAITS_FOR_EVER], cwd=ROOT)
    wait_for(lambda: "ready" in process.log, "the process to be ready")
    process.send(signal.SIGTERM)
    assert process.exit_code() == 0


WAITS_FOR_EVER = """
import threading
from ssd_ros.ros import signals
signals.install().call(threading.Event().wait)
print("ready", flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize("name", ["detector", "image_source"])
def test_help_tells_what_the_node_does_and_starts_nothing(graph, name):
    program = COMMAND.replace("detector", name)
    process = graph.start_command([sys.executable, "-c", program, "--help"], cwd=ROOT)
    assert ended_quietly(process)
    assert process.log.startswith(f"usage: ros2 run ssd_ros {name}")
    assert "Parameters (default):" in process.log


@pytest.mark.parametrize(
    ("reliability", "transport"),
    [
        ("reliable", "raw"),
        pytest.param("reliable", "compressed", marks=long),
        pytest.param("best_effort", "raw", marks=long),
        ("best_effort", "compressed"),
    ],
)
def test_a_camera_that_was_killed_is_heard_again_once_it_is_restarted(
    graph, weights, image_folder, reliability, transport
):
    graph.start_detector({"weights": weights, "device": "cpu", "image_transport": transport})
    detections = graph.hear(Detection2DArray, "detections")
    topic = graph.name("image_raw/compressed" if transport == "compressed" else "image_raw")
    parameters = {
        "source": str(image_folder),
        "transport": transport,
        f"qos_overrides.{topic}.publisher.reliability": reliability,
    }
    for _ in range(2):
        source = graph.start_process("ssd_ros.ros.image_source_node", parameters)
        heard = len(detections)
        wait_for(lambda n=heard: len(detections) > n, "a detection")
        source.send(signal.SIGKILL)
        assert source.exit_code() == -signal.SIGKILL
