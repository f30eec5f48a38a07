# SPDX-License-Identifier: Apache-2.0
"""Topic names are resolved and checked before anything is created."""

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from diagnostic_msgs.msg import DiagnosticStatus
from played_camera import PlayedCamera
from rclpy.node import Node
from services import Services
from waiting import wait_for

from ssd_ros.ros.topics import CameraTopics, camera_topics, output_namespaces, resolver

NAMESPACE = "/robot"
REMAPPED = ["--ros-args", "-r", "left:=same", "-r", "right:=same", "-r", "detections:=out"]


@pytest.fixture
def resolve(rclpy_started):
    node = Node("resolving", namespace=NAMESPACE, cli_args=REMAPPED)
    yield resolver(node)
    node.destroy_node()


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["image_raw", "/robot/image_raw"], "more than once"),
        (["left", "right"], "more than once"),
        (["front-left"], "'front-left' is not a topic name"),
        (["front left"], "'front left' is not a topic name"),
        (["image_raw/"], "not a topic name"),
        (["{no_such}/image"], "not a topic name"),
        (["\x1b"], "not a topic name"),
        (["a" * 300], "not a topic name"),
        (["x/" + "a" * 225, "x/b"], "not a topic name"),  # its outputs would be
        (["detections_image"], "'/robot/detections_image' is also an output"),
        (["out"], "'/robot/out' is also an output"),
    ],
)
def test_names_that_cannot_work_are_refused(resolve, names, reason):
    with pytest.raises(ValueError, match=reason):
        camera_topics(names, False, resolve)


def test_the_annotated_image_as_jpeg_is_an_output(resolve):
    with pytest.raises(ValueError, match="'/a/detections_image/compressed' is also an output"):
        camera_topics(["/a/detections_image"], True, resolve)


def test_names_that_look_like_outputs_and_are_none_are_accepted(resolve):
    assert camera_topics(["/a/detections"], True, resolve) == [CameraTopics("/a/detections", "/a")]
    both = camera_topics(["image_raw", "/other/detections"], True, resolve)
    assert [topics.outputs for topics in both] == [NAMESPACE, "/other"]


def test_equal_topics_do_not_hang(resolve):
    with pytest.raises(ValueError, match="different"):
        output_namespaces(["/a", "/a"])


def test_wrong_start_values_are_repaired_one_at_a_time(graph, parameters, images):
    wrong = {"image_topics": ["front-left"], "image_transport": "theora", "precision": "fp9"}
    graph.start_detector({**parameters, **wrong})
    node = Services(graph)
    assert node.state == "unconfigured"
    status = graph.status("detector")
    assert status.level == DiagnosticStatus.ERROR
    assert "front-left" in status.summary or "theora" in status.summary
    refused = node.set("image_topics", ["front left", "other"])
    assert not refused.successful
    assert node.set("image_topics", ["image_raw"]).successful
    assert not node.change("configure")
    assert node.set("precision", "fp32").successful
    assert not node.set("image_topics", ["image_raw", graph.name("image_raw")]).successful
    assert node.set("image_transport", "raw").successful
    assert node.change("configure")
    assert node.change("activate")
    PlayedCamera(graph).detect(images[0])


def test_a_change_of_another_parameter_cannot_make_a_topic_an_output(graph, parameters):
    topics = ["detections"]
    graph.start_detector(
        {**parameters, "image_topics": topics, "image_transport": "compressed", "autostart": False}
    )
    node = Services(graph)
    result = node.set("image_transport", "raw")
    assert not result.successful
    assert "is also an output" in result.reason


def test_the_reliability_override_takes_effect_while_the_node_runs(graph, parameters, images):
    graph.start_detector(parameters)
    camera, node = PlayedCamera(graph), Services(graph)
    camera.detect(images[0])
    name = f"qos_overrides.{graph.name('image_raw')}.subscription.reliability"
    result = node.set(name, "perfect")
    assert not result.successful
    assert "'perfect'" in result.reason
    assert node.set(name, "best_effort").successful
    wait_for(lambda: [r.name for r in camera.subscribed] == ["BEST_EFFORT"], "another subscription")
