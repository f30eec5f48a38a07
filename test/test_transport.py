# SPDX-License-Identifier: Apache-2.0
"""How many pictures get through to the node, with the shipped Fast DDS profile and without."""

import os
import re
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from rclpy.utilities import get_rmw_implementation_identifier
from ros_graph import made_picture, wait_for

from ssd_ros import picture_files
from ssd_ros.transport import PROFILE_VARIABLES

SIZES = [(640, 480), (1920, 1080)]
RATE = 30.0
UDP_BUFFER = Path("/proc/sys/net/core/rmem_default")

needs_fast_dds = pytest.mark.skipif(
    "fastrtps" not in get_rmw_implementation_identifier(), reason="the profile is Fast DDS's"
)


def start_camera(graph, folder, size, reliability, pictures=0):
    """A camera of 30 Hz; it sends so many pictures once it is heard, or goes on for ever."""
    first = folder / "0000.bmp"  # quick to read
    picture_files.write(first, made_picture(0, *size))
    for i in range(1, pictures):
        os.link(first, folder / f"{i:04}.bmp")
    parameters = {"source": str(folder), "rate": RATE, "loop": not pictures}
    parameters["wait_for_subscribers"] = 1
    parameters[f"qos_overrides.{graph.name('image_raw')}.publisher.reliability"] = reliability
    return graph.start_process("ssd_ros.image_source_node", parameters, graph.namespace)


@needs_fast_dds
@pytest.mark.timeout(120)
@pytest.mark.parametrize("reliability", ["reliable", "best_effort"])
@pytest.mark.parametrize("size", SIZES)
def test_with_the_shipped_profile_every_picture_arrives(
    graph, weights, tmp_path, rounds, size, reliability
):
    sent = rounds(short=0, full=300)
    if not sent:
        pytest.skip("needs a machine without other work; pytest --endurance runs it")
    parameters = {"weights": weights, "device": "cpu"}
    # With the node's own depth of 1 a picture may replace the one before in DDS, uncounted.
    parameters[f"qos_overrides.{graph.name('image_raw')}.subscription.depth"] = 10
    detector = graph.start_process("ssd_ros.detector_node", parameters)
    camera = start_camera(graph, tmp_path, size, reliability, pictures=sent)
    assert camera.exit_code(60) == 0
    graph.next_diagnostics(2)
    assert f"published {sent} pictures" in camera.log
    assert graph.camera_status().count("received") == sent
    assert "lost on the way" not in detector.log


@needs_fast_dds
@pytest.mark.skipif(
    UDP_BUFFER.exists() and int(UDP_BUFFER.read_text()) > 2**20,
    reason="this system's UDP buffers hold a picture: none is lost",
)
@pytest.mark.parametrize("size", SIZES)
def test_without_it_the_node_says_that_pictures_are_lost_and_names_the_remedy(
    graph, weights, tmp_path, rounds, size, monkeypatch
):
    if size == SIZES[1] and not rounds(short=0, full=1):
        pytest.skip("the small size tells it, too; pytest --endurance runs it")
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    detector = graph.start_process("ssd_ros.detector_node", {"weights": weights, "device": "cpu"})
    start_camera(graph, tmp_path, size, "best_effort")
    graph.camera_status(received=1)
    wait_for(lambda: "are lost on the way" in detector.log, "the report", timeout=10)
    assert re.search(rf"\d\d% of the pictures on '{graph.name('image_raw')}'", detector.log)
    remedy = re.search(rf"{PROFILE_VARIABLES[0]}=(\S+)", detector.log)
    assert Path(remedy[1]).name == "fastdds.xml"
    assert Path(remedy[1]).exists()
    wait_for(
        lambda: int(graph.camera_status().values.get("lost on the way (%)", 0)) >= 10, "the share"
    )
    assert detector.log.count("are lost on the way") == 1
