# SPDX-License-Identifier: Apache-2.0
"""Images that get lost on their way to the node, and the Fast DDS profile against it.

That every image arrives with the profile is measured by benchmarks/promises.py.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from graph import ROOT
from played_camera import PlayedCamera
from rclpy.utilities import get_rmw_implementation_identifier
from std_msgs.msg import Header

from ssd_ros.ros.dds_profile import PROFILE_VARIABLES

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
def test_lost_images_are_reported_with_their_share_and_the_suggestion(
    graph, weights, images, monkeypatch
):
    """A camera of 30 Hz of whose images each third never comes, by the stamps of the others."""
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    graph.start_detector({"weights": weights, "device": "cpu"})
    camera = PlayedCamera(graph)
    camera.wait_for_subscribers(1)
    first = camera.header().stamp
    for number in (number for number in range(45) if number % 3 < 2):
        header = Header(frame_id="camera")
        header.stamp.sec, header.stamp.nanosec = first.sec + number // 30, number % 30 * 33_333_333
        camera.wait_for_answer(camera.send(images[0], header))
    report = graph.wait_for_log("are lost in transport")
    assert re.match(rf"[23]\d% of images on '{camera.topic}' are lost in transport", report)
    assert "(period 33 ms)" in report
    suggestion = re.search(rf"{PROFILE_VARIABLES[0]}=(\S+)", report)
    assert Path(suggestion[1]).name == "fastdds.xml"
    assert Path(suggestion[1]).exists()
    status = graph.camera_status(processed=30)
    assert 30 <= status.count("lost on the way (%)") <= 35
    graph.next_diagnostics(2)
    assert len(graph.logged("are lost in transport")) == 1


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
