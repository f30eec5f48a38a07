# SPDX-License-Identifier: Apache-2.0
"""Topic names are resolved and checked before anything is created."""

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from diagnostic_msgs.msg import DiagnosticStatus
from played_camera import PlayedCamera
from rclpy.node import Node
from services import Services
from waiting import wait_for

from ssd_ros.ros.topics import (
    OUTPUTS,
    TopicResolver,
    camera_topics,
    check_output_namespace,
    output_namespaces,
    source_topics,
)

NAMESPACE = "/robot"
REMAPPED = ["--ros-args", "-r", "left:=same", "-r", "right:=same", "-r", "detections:=out"]
REMAPPED += ["-r", "/front/label_info:=/labels"]


@pytest.fixture
def resolve(rclpy_started):
    node = Node("resolving", namespace=NAMESPACE, cli_args=REMAPPED)
    yield TopicResolver(node)
    node.destroy_node()


def outputs(topics, resolve):
    return [[resolve(camera.outputs[name]) for name in OUTPUTS] for camera in topics]


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
    (camera,) = camera_topics(["/a/detections_markers"], True, resolve)
    assert camera.image == "/a/detections_markers"
    assert camera.outputs["detections_markers"] == "/a/detections_markers"
    both = camera_topics(["image_raw", "/other/detections_markers"], True, resolve)
    spaces = [camera.outputs["label_info"].rpartition("/")[0] for camera in both]
    assert spaces == [NAMESPACE, "/other"]


def test_an_output_namespace_is_put_below_that_of_each_image_topic(resolve):
    names = ["/front/image_raw", "/both/left", "/both/right"]
    topics = camera_topics(names, False, resolve, "night/v2")
    assert outputs(topics, resolve) == [
        [f"{space}/night/v2/{name}" for name in OUTPUTS]
        for space in ("/front", "/both/left", "/both/right")
    ]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("/night", "starts with a letter"),
        ("night/", "starts with a letter"),
        ("2nd", "starts with a letter"),
        ("a//b", "starts with a letter"),
        ("my-model v2", "' ', '-' not allowed"),
        ("~", "'~' not allowed"),
        ("nächte", "'ä' not allowed"),
        ("night\n", r"'\\n' not allowed"),
    ],
)
def test_an_output_namespace_that_cannot_be_one_is_refused(value, reason):
    with pytest.raises(ValueError, match=f"(?s)output_namespace must .*{reason}"):
        check_output_namespace(value)


@pytest.mark.parametrize("value", ["", "night", "_a/B2/c_"])
def test_an_output_namespace_that_can_be_one_is_accepted(value):
    check_output_namespace(value)


def test_rules_remap_an_output_by_its_full_name_and_that_of_a_single_camera_by_its_own(resolve):
    rest = [f"/front/{name}" for name in OUTPUTS[1:-1]] + ["/labels"]
    (one,) = outputs(camera_topics(["/front/image_raw"], False, resolve), resolve)
    assert one == ["/robot/out", *rest]  # by detections:=out
    both = camera_topics(["/front/image_raw", "/rear/image_raw"], False, resolve)
    front, rear = outputs(both, resolve)
    assert front == ["/front/detections", *rest]
    assert rear == [f"/rear/{name}" for name in OUTPUTS]


def test_the_jpeg_of_the_annotated_image_follows_the_image(rclpy_started):
    """As with image_transport; it can have a rule of its own."""
    moved = ["--ros-args", "-r", "/a/detections_image:=/drawn", "-r", "detections_image:=boxes"]
    node = Node("moved", namespace=NAMESPACE, cli_args=moved)
    own = ["--ros-args", "-r", "/a/detections_image/compressed:=/jpeg"]
    other = Node("other", namespace=NAMESPACE, cli_args=own)

    def jpegs(node, *names):
        resolve = TopicResolver(node)
        topics = camera_topics(names, False, resolve)
        return [resolve(camera.outputs["detections_image/compressed"]) for camera in topics]

    assert jpegs(node, "/a/image", "/b/image") == [
        "/drawn/compressed",
        "/b/detections_image/compressed",
    ]
    assert jpegs(node, "/a/image") == [f"{NAMESPACE}/boxes/compressed"]
    assert jpegs(other, "/a/image") == ["/jpeg"]
    node.destroy_node()
    other.destroy_node()


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], ["/robot/image_raw", "/robot/image_raw/compressed", "/robot/camera_info"]),
        (["image_raw:=/cam/image"], ["/cam/image", "/cam/image/compressed", "/cam/camera_info"]),
        (
            ["image_raw:=cam/image", "camera_info:=info", "/robot/image_raw/compressed:=jpeg"],
            ["/robot/cam/image", "/robot/jpeg", "/robot/info"],
        ),
    ],
)
def test_what_belongs_to_an_image_source_s_topic_follows_it(rclpy_started, rules, expected):
    arguments = ["--ros-args", *(part for rule in rules for part in ("-r", rule))]
    node = Node("source", namespace=NAMESPACE, cli_args=arguments)
    resolve = TopicResolver(node)
    topics = source_topics(resolve)
    names = [topics.image, topics.compressed, topics.camera_info]
    assert [resolve(name) for name in names] == expected
    node.destroy_node()


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
