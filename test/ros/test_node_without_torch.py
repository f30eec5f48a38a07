# SPDX-License-Identifier: Apache-2.0
"""The detector as on a robot: a node process in which PyTorch cannot be imported."""

import sys

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

import psutil
import torch
from graph import ROOT
from made_weights import torchvision_state_dict
from played_camera import PlayedCamera, boxes_in, names_in
from services import Services

from ssd_ros.detector import Detector
from ssd_ros.image import Image

NODE = """
import sys
sys.modules["torch"] = sys.modules["torchvision"] = None
from ssd_ros.ros.detector_node import main
sys.exit(main())
"""


def test_the_node_detects_and_swaps_weights_without_pytorch(
    graph, weights, other_weights, images, tmp_path
):
    arguments = ["--ros-args", "-r", f"__ns:={graph.namespace}", "-p", f"weights:={weights}"]
    process = graph.start_command([sys.executable, "-c", NODE, *arguments], cwd=ROOT)
    camera, node = PlayedCamera(graph), Services(graph)
    assert "OpenVINO" in graph.wait_for_log("loaded")
    for file in (weights, other_weights):
        assert node.set("weights", file).successful
        expected, detector = Detector(file), camera.detect(images[0])
        found = expected([Image(images[0])])[0]
        assert names_in(detector) == [expected.classes[label] for label in found.labels]
        assert boxes_in(detector) == pytest.approx(found.boxes, abs=1e-3)

    foreign = tmp_path / "foreign.pth"
    torch.save({"model": torchvision_state_dict(21)}, foreign)
    assert node.set("weights", str(foreign)).successful
    graph.wait_for_log("20 classes")
    result = node.set("backend", "pytorch")
    assert not result.successful
    assert "backend 'pytorch' needs the module 'torch', which is not installed" in result.reason
    assert process.alive
    print(f"resident: {psutil.Process(process.pid).memory_info().rss / 2**20:.0f} MiB")
