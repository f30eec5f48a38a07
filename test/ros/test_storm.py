# SPDX-License-Identifier: Apache-2.0
"""Everything that can go wrong around the node at once: it lives, answers, counts, and ends.

STORM_SEED=N replays the storm of another seed; `pytest --endurance` runs it for half an hour.
"""

import os
import random
import signal
import sys

import psutil
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from graph import ROOT
from made_weights import CLASSES
from played_camera import PlayedCamera, names_in
from services import Services
from storm import TOPICS, Storm
from waiting import wait_for

from ssd_ros.ros.parameter_table import DETECTOR

OUTCOMES = ("processed", "superseded", "too old", "bad", "failed", "discarded")
PROGRAM = "import sys; from ssd_ros.ros.commands import detector; sys.exit(detector())"
GROWTH = {20: 1.5, 1800: 1.05}  # of the memory by seconds: after a short storm caches are not full


def start(graph, weights, topics):
    options = ["--ros-args", "-r", f"__ns:={graph.namespace}", "-p", f"weights:={weights}"]
    options += ["-p", f"image_topics:=[{','.join(topics)}]", "-p", "use_sim_time:=true"]
    options += ["-r", f"{graph.name('right')}:={graph.name('right_camera/image_raw')}"]
    return graph.start_command([sys.executable, "-c", PROGRAM, *options], cwd=ROOT)


def repair(node, weights, topics):
    """Brings the node into the state that it began with, whatever was done to it."""
    for transition in ("deactivate", "cleanup"):
        node.change(transition)
    assert node.state == "unconfigured"
    for name, row in DETECTOR.items():
        assert node.set(name, row.default).successful
    assert node.set("image_topics", topics).successful
    assert node.set("weights", weights).successful
    assert node.set("use_sim_time", False).successful
    node.enable(True)
    assert node.change("configure")
    assert node.change("activate")


def all_counted(graph, topic):
    status = graph.camera_status(topic, processed=1)
    return status.count("received") == sum(status.count(name) for name in OUTCOMES)


@pytest.mark.parametrize(
    "seconds",
    [20, pytest.param(1800, marks=[pytest.mark.endurance, pytest.mark.timeout(2400)])],
)
def test_the_node_survives_a_storm(graph, weights, other_weights, images, tmp_path, seconds):
    seed = int(os.environ.get("STORM_SEED", "1" if seconds < 60 else random.randrange(10**6)))
    print(f"replay with STORM_SEED={seed}")
    topics = [graph.name(topic) for topic in TOPICS]
    process, node = start(graph, weights, topics), Services(graph)
    wait_for(lambda: graph.logged("detecting on"), "the node to work")
    storm = Storm(graph, seed, (weights, other_weights), tmp_path)
    resident = []  # in the same state: in the middle of a change there may be two networks
    for share in (1 / 3, 2 / 3):
        storm.rage(seconds * share)
        assert process.alive, process.log
        print(storm.steps, "slowest answer:", *storm.longest)
        repair(node, weights, topics)
        resident.append(psutil.Process(process.pid).memory_info().rss)
    growth = resident[1] / resident[0]
    print(f"memory: {resident[0] / 2**20:.0f} MiB, {growth:.3f} times that at the end")
    assert growth < GROWTH[seconds]

    for topic in TOPICS[:3]:
        camera = PlayedCamera(graph, topic)
        assert set(names_in(camera.detect(images[0]))) <= set(CLASSES)
        wait_for(lambda topic=topic: all_counted(graph, topic), "every frame to be counted")
    process.send(signal.SIGTERM)
    assert process.exit_code() == 0, process.log
    assert "Traceback" not in process.log
