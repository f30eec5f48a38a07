# SPDX-License-Identifier: Apache-2.0
"""Nodes as processes: signals end them in every state, and they survive the end of a camera."""

import signal

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

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
