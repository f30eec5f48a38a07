# SPDX-License-Identifier: Apache-2.0
"""Images that get lost on their way to the node, and the Fast DDS profile against it.

That every image arrives with the profile is measured by benchmarks/promises.py.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

import psutil
from graph import ROOT, node_command
from played_camera import PlayedCamera
from rclpy.utilities import get_rmw_implementation_identifier
from waiting import wait_for

from ssd_ros.ros.dds_profile import PROFILE_VARIABLES, segment_size, shipped_profile
from ssd_ros.ros.image_subscription import HAS_MESSAGE_INFO

UDP_BUFFER = Path("/proc/sys/net/core/rmem_default")

needs_fast_dds = pytest.mark.skipif(
    "fastrtps" not in get_rmw_implementation_identifier(), reason="the profile is Fast DDS's"
)


SENDER = """
import sys, time
import numpy as np
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image as ImageMsg
from ssd_ros.messages.images import fill_image

rclpy.init()
node = rclpy.create_node("driver")
qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
publisher = node.create_publisher(ImageMsg, sys.argv[1], qos)
message = fill_image(ImageMsg(), np.zeros((480, 640, 3), np.uint8), "bgr8")
stamp = node.get_clock().now().nanoseconds
while True:  # stamped evenly, however unevenly a busy machine sends
    stamp += 10**9 // 30
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
    publisher.publish(message)
    time.sleep(1 / 30)
"""


@needs_fast_dds
@pytest.mark.skipif(not HAS_MESSAGE_INFO, reason="this rclpy does not pass sequence numbers")
def test_lost_images_are_reported_once_with_their_share_and_the_suggestion(
    graph, weights, images, monkeypatch
):
    """Images that are published while the node is stopped are more than a queue holds."""
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    parameters = {"weights": weights, "device": "cpu"}
    detector = graph.start_process("ssd_ros.ros.detector_node", parameters)
    camera = PlayedCamera(graph)
    camera.detect(images[0])

    def lose_some() -> list[str]:
        detector.send(signal.SIGSTOP)
        wait_for(lambda: psutil.Process(detector.pid).status() == "stopped", "the node to stop")
        for _ in range(40):
            camera.send(images[3])
        detector.send(signal.SIGCONT)
        camera.detect(images[3])
        return graph.logged("are lost in transport")

    report = wait_for(lose_some, "the report")[0]
    assert re.match(rf"\d\d% of images on '{camera.topic}' are lost in transport: ", report)
    suggestion = re.search(rf"{PROFILE_VARIABLES[0]}=(\S+)", report)
    assert Path(suggestion[1]).name == "fastdds.xml"
    assert Path(suggestion[1]).exists()
    status = wait_for(lambda: graph.camera_status(processed=2), "the status")
    assert status.count("lost on the way (%)") >= 10
    graph.next_diagnostics(2)
    assert len(graph.logged("are lost in transport")) == 1


# --- shared memory ----------------------------------------------------------------------------

# Needs root: it mounts a /dev/shm of its own, as a container has it.
CONTAINER = 'mount -t tmpfs -o size="$1" tmpfs /dev/shm && shift && exec "$@"'


def in_container(shared_memory: str, *command: str) -> list[str]:
    return ["unshare", "--mount", "bash", "-c", CONTAINER, "bash", shared_memory, *command]


def may_mount() -> bool:
    command = in_container("1m", "true")
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_mounts = pytest.mark.skipif(not may_mount(), reason="may not mount a /dev/shm")


def test_the_segment_size_is_that_of_the_selected_profile(tmp_path, monkeypatch):
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert segment_size() == 0
    monkeypatch.setenv(PROFILE_VARIABLES[0], str(shipped_profile()))
    assert segment_size() == 64 * 2**20
    monkeypatch.setenv(PROFILE_VARIABLES[0], str(tmp_path / "not there.xml"))
    assert segment_size() == 0


@needs_fast_dds
@needs_mounts
@pytest.mark.parametrize(("size", "reported"), [("64m", True), ("200m", False)])
def test_a_container_s_small_shared_memory_is_reported(graph, weights, images, size, reported):
    parameters = {"weights": weights, "device": "cpu", "image_topics": [graph.name("image_raw")]}
    command = node_command("ssd_ros.ros.detector_node", parameters, graph.namespace)
    detector = graph.start_command(in_container(size, *command), cwd=ROOT)
    wait_for(lambda: "detecting on" in detector.log, "the node")  # /rosout cannot be heard
    assert ("--shm-size" in detector.log) == reported
    assert ("/dev/shm has 64 MiB" in detector.log) == reported
    assert ("needs 64 MiB in each process" in detector.log) == reported
    assert "Fast DDS has made no" not in detector.log


@needs_fast_dds
@needs_mounts
def test_shared_memory_that_fast_dds_cannot_use_is_reported(graph, weights):
    parameters = {"weights": weights, "device": "cpu", "image_topics": [graph.name("image_raw")]}
    command = node_command("ssd_ros.ros.detector_node", parameters, graph.namespace)
    detector = graph.start_command(in_container("1g,ro", *command), cwd=ROOT)
    wait_for(lambda: "detecting on" in detector.log, "the node")
    assert "Fast DDS has made no shared memory in /dev/shm" in detector.log


@needs_fast_dds
@needs_mounts
def test_a_camera_that_shares_no_memory_with_the_node_is_reported(graph, parameters):
    command = [sys.executable, "-c", SENDER, graph.name("image_raw")]
    graph.start_command(in_container("1g", *command), cwd=ROOT)
    graph.start_detector({**parameters, "image_timeout": 1.0})
    report = graph.wait_for_log("shares no memory with this node")
    assert "published by a node of unknown name: it is on this machine" in report
    assert "--ipc=host" in report


@needs_fast_dds
@pytest.mark.endurance
@pytest.mark.skipif(
    UDP_BUFFER.exists() and int(UDP_BUFFER.read_text()) > 2**20,
    reason="this system's UDP buffers hold an image: none is lost",
)
def test_without_the_profile_the_node_finds_out_that_images_are_lost(graph, weights, monkeypatch):
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    graph.start_process("ssd_ros.ros.detector_node", {"weights": weights, "device": "cpu"})
    graph.start_command([sys.executable, "-c", SENDER, graph.name("image_raw")], cwd=ROOT)
    graph.wait_for_log("are lost in transport")


def test_a_package_without_its_share_folder_still_has_a_suggestion(tmp_path):
    shutil.copytree(ROOT / "ssd_ros", tmp_path / "ssd_ros")
    program = "from ssd_ros.ros import dds_profile; print(dds_profile.suggestion())"
    unset = dict.fromkeys(PROFILE_VARIABLES, "")
    environment = {**os.environ, **unset, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", program]
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert f"{PROFILE_VARIABLES[0]}=" in result.stdout
