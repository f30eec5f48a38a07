# SPDX-License-Identifier: Apache-2.0
"""Long runs with `pytest --endurance`: the node's memory must not grow.

Speed is measured by benchmarks/promises.py.
"""

import random
import time

import psutil
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from made_weights import CLASSES, OTHER_CLASSES
from played_camera import PlayedCamera, names_in
from processes import Process
from services import Services
from vision_msgs.msg import Detection2DArray
from waiting import wait_for

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(1200)]


def resident(process: Process) -> int:
    return psutil.Process(process.pid).memory_info().rss


def test_fifty_swaps_between_two_models_never_mix_and_leave_no_memory(
    graph, weights, other_weights, images, tmp_path
):
    detector = graph.start_process(
        "ssd_ros.ros.detector_node", {"weights": weights, "device": "cpu"}
    )
    camera, node = PlayedCamera(graph), Services(graph)
    camera.detect(images[0])
    camera.stream(images[0])
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(random.Random(0).randbytes(1000))
    sizes = []
    for number in range(50):
        file, names = ((other_weights, OTHER_CLASSES), (weights, CLASSES))[number % 2]
        assert not node.set("weights", str(bad)).successful
        assert node.set("weights", file).successful
        assert node.get("weights") == file
        heard = len(camera.detections)
        wait_for(
            lambda n=heard, c=names: (
                set(names_in(camera.detections[-1])) <= set(c) and len(camera.detections) > n + 3
            ),
            "detections of the new model",
        )
        sizes.append(resident(detector))
    assert sizes[-1] < 1.05 * sizes[2]
    for message in camera.detections:
        found = set(names_in(message))
        assert found <= set(CLASSES) or found <= set(OTHER_CLASSES)
    assert "Traceback" not in detector.log


def test_ten_minutes_of_four_cameras_leave_no_memory(graph, weights, image_folder):
    cameras = [f"camera{i}" for i in range(4)]
    topics = [graph.name(f"{camera}/image_raw") for camera in cameras]
    detector = graph.start_process(
        "ssd_ros.ros.detector_node", {"weights": weights, "device": "cpu", "image_topics": topics}
    )
    heard = [graph.hear(Detection2DArray, f"{camera}/detections") for camera in cameras]
    for camera in cameras:
        graph.start_process(
            "ssd_ros.ros.image_source_node",
            {"source": str(image_folder), "rate": 30.0},
            namespace=graph.name(camera),
        )
    wait_for(lambda: all(heard), "every camera")
    start, samples = time.monotonic(), []
    while (now := time.monotonic() - start) < 600:
        samples.append((now, resident(detector)))
        for messages in heard:
            messages.clear()  # this process's memory
        time.sleep(1)

    def mean(first, last):
        inside = [size for when, size in samples if first <= when < last]
        return sum(inside) / len(inside)

    print(f"resident: {mean(60, 120) / 2**20:.1f} MiB, {mean(540, 600) / 2**20:.1f} MiB")
    assert mean(540, 600) < 1.02 * mean(60, 120)


def test_a_hundred_rounds_of_the_lifecycle_under_load_leave_no_memory(graph, weights, images):
    detector = graph.start_process(
        "ssd_ros.ros.detector_node", {"weights": weights, "device": "cpu", "autostart": False}
    )
    camera, node = PlayedCamera(graph), Services(graph)
    camera.stream(images[2])
    sizes = []
    for _ in range(100):
        assert node.change("configure")
        assert node.change("activate")
        heard = len(camera.detections)
        wait_for(lambda n=heard: len(camera.detections) > n, "detections")
        assert node.change("deactivate")
        assert node.change("cleanup")
        sizes.append(resident(detector))
    assert sizes[-1] < 1.05 * sizes[len(sizes) // 3]
    assert "Traceback" not in detector.log
