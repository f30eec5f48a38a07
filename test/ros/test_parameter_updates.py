# SPDX-License-Identifier: Apache-2.0
"""A change of parameters takes effect completely, or not at all."""

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from made_weights import CLASSES
from played_camera import PlayedCamera, names_in, scores_in
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
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


def set_in_one_request(node, values):
    """As `ros2 param load`: whether each was set."""
    messages = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
    answer = node.call(SetParameters, "set_parameters", parameters=messages)
    return [result.successful for result in answer.results]


def test_values_that_are_valid_only_together_are_set_by_one_request_and_loaded_once(
    graph, parameters, images
):
    graph.start_detector(parameters)
    camera, node = PlayedCamera(graph), Services(graph)
    camera.detect(images[0])
    assert not node.set("precision", "int8").successful  # the present weights have no ranges
    values = {"precision": "int8", "classes": ["cup"], "threads": 1, "weights": "demo"}
    before = len(graph.logged("loaded"))
    assert set_in_one_request(node, values) == [True] * 4
    assert [node.get(name) for name in values] == list(values.values())
    graph.wait_for_log("loaded 'demo'")
    camera.detect(images[0])
    assert len(graph.logged("loaded")) == before + 1


def test_a_wrong_value_of_a_request_does_not_keep_the_others_from_being_set(
    graph, parameters, images
):
    graph.start_detector(parameters)
    camera, node = PlayedCamera(graph), Services(graph)
    values = {"max_detections": 2, "weights": "missing.safetensors", "no_such": 1, "threads": 1}
    assert set_in_one_request(node, values) == [True, False, False, True]
    assert (node.get("max_detections"), node.get("threads")) == (2, 1)
    assert len(camera.detect(images[0]).detections) == 2
