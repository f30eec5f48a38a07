# SPDX-License-Identifier: Apache-2.0
"""A change of parameters takes effect completely, or not at all."""

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from made_weights import CLASSES
from played_camera import PlayedCamera, names_in, scores_in
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from services import Services

from ssd_ros.ros.detector_node import DetectorNode


def refuse(parameters):
    return SetParametersResult(successful=False, reason="refused by the user's callback")


class EarlierCallback(DetectorNode):
    """Registers a user's callback before the node's own; rclpy calls the last one first."""

    refusing = False

    def add_on_set_parameters_callback(self, callback):
        super().add_on_set_parameters_callback(self._maybe_refuse)
        super().add_on_set_parameters_callback(callback)

    def _maybe_refuse(self, parameters):
        return refuse(parameters) if self.refusing else SetParametersResult(successful=True)

    def begin_refusing(self):
        self.refusing = True


class LaterCallback(DetectorNode):
    """Registers a user's callback after the node's own."""

    def begin_refusing(self):
        self.add_on_set_parameters_callback(refuse)


@pytest.mark.parametrize("node_class", [EarlierCallback, LaterCallback])
def test_a_change_that_another_callback_refuses_leaves_the_detections_as_they_were(
    graph, parameters, images, other_weights, node_class
):
    detector = graph.start_detector(parameters, node_class)
    camera, node = PlayedCamera(graph), Services(graph)
    before = camera.detect(images[0])
    detector.begin_refusing()
    for name, value in (
        ("max_detections", 1),
        ("weights", other_weights),
        ("max_frame_age", 0.001),
        ("classes", ["cone"]),
    ):
        kept = node.get(name)
        result = node.set(name, value)
        assert not result.successful
        assert result.reason == "refused by the user's callback"
        assert node.get(name) == kept
        after = camera.detect(images[0])
        assert names_in(after) == names_in(before)
        assert scores_in(after) == scores_in(before)


def test_changes_take_effect_without_post_set_callbacks(
    graph, parameters, images, other_weights, monkeypatch
):
    """As on Humble."""
    monkeypatch.delattr(Node, "add_post_set_parameters_callback", raising=False)
    graph.start_detector(parameters)
    camera, node = PlayedCamera(graph), Services(graph)
    before = scores_in(camera.detect(images[0]))
    assert node.set("max_detections", 1).successful
    assert scores_in(camera.detect(images[0])) == before[:1]
    assert not node.set("weights", "missing.safetensors").successful
    assert set(names_in(camera.detect(images[0]))) <= set(CLASSES)
    assert node.set("weights", other_weights).successful
    assert not set(names_in(camera.detect(images[0]))) & set(CLASSES)
