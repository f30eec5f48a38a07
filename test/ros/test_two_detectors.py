# SPDX-License-Identifier: Apache-2.0
"""Two detectors on one camera: their outputs, and what tells them apart."""

import signal

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from made_weights import CLASSES, OTHER_CLASSES
from played_camera import PlayedCamera, names_in, stamp_of
from vision_msgs.msg import Detection2DArray
from waiting import wait_for

NODE = "ssd_ros.ros.detector_node"


def start_other(graph, **parameters):
    """A second detector on the test's camera, from a namespace of its own."""
    topics = [graph.name("image_raw")]
    given = {"device": "cpu", "image_topics": topics, **parameters}
    return graph.start_process(NODE, given, f"{graph.namespace}/other")


def test_the_same_outputs_are_reported_with_the_other_node_and_what_to_set(
    graph, parameters, weights, images
):
    graph.start_detector(parameters)
    camera = PlayedCamera(graph)
    camera.detect(images[0])
    wait_for(lambda: graph.camera_status().level == DiagnosticStatus.OK, "the status")
    other = start_other(graph, weights=weights)
    camera.stream(images[0], 5)
    start = f"'{graph.name('detections')}' is also published by "
    warning = graph.wait_for_log(f"{start}{graph.namespace}/other/detector")
    assert "output_namespace" in warning
    assert graph.camera_status().level == DiagnosticStatus.WARN
    wait_for(lambda: f"{start}{graph.namespace}/detector" in other.log, "the other's warning")


def test_two_nodes_of_one_name_both_report_it_whatever_their_topics_are(graph, parameters, weights):
    graph.start_detector(parameters)
    wait_for(lambda: graph.status("detector").level == DiagnosticStatus.OK, "the status")
    given = {"device": "cpu", "weights": weights, "image_topics": ["other/image_raw"]}
    later = graph.start_process(NODE, given)
    text = f"2 nodes are named {graph.namespace}/detector"
    wait_for(lambda: text in later.log, "the later one's warning")
    messages = graph.hear(DiagnosticArray, "/diagnostics")

    def told() -> set[bytes]:  # by the two, which only their publishers tell apart
        own = [s for m in messages for s in m.status if s.name == graph.name("detector")]
        return {s.message.startswith(text) and s.level for s in own[-4:]}

    wait_for(lambda: len(messages) > 4 and told() == {DiagnosticStatus.WARN}, "both to warn")
    assert len(graph.logged(text)) == 2
    later.send(signal.SIGINT)
    assert later.exit_code() == 0
    wait_for(lambda: graph.status("detector").level == DiagnosticStatus.OK, "the status")


def test_an_output_namespace_keeps_their_outputs_apart(graph, parameters, other_weights, images):
    graph.start_detector(parameters)
    start_other(graph, weights=other_weights, output_namespace="night")
    night = graph.hear(Detection2DArray, "night/detections")
    camera = PlayedCamera(graph)
    camera.wait_for_subscribers(2)
    answer = camera.detect(images[0])
    wait_for(lambda: night and names_in(night[-1]), "the other's answer")
    assert set(names_in(answer)) <= set(CLASSES)
    assert set(names_in(night[-1])) <= set(OTHER_CLASSES)
    assert stamp_of(night[-1].header) in camera.sent
    wait_for(lambda: graph.camera_status().level == DiagnosticStatus.OK, "the status")
    assert not graph.logged("also published")


@pytest.mark.parametrize("rule", ["detections:=boxes", "{ns}/front/detections:={ns}/boxes"])
def test_a_remapping_rule_moves_the_detections_of_a_camera(graph, weights, images, rule):
    topics, rule = ["front/image_raw"], rule.format(ns=graph.namespace)
    given = {"weights": weights, "device": "cpu", "image_topics": topics}
    graph.start_process(NODE, given, more=["-r", rule])
    boxes = graph.hear(Detection2DArray, "boxes")
    camera = PlayedCamera(graph, "front/image_raw")
    camera.stream(images[0], 10)
    wait_for(lambda: boxes, "detections on the new topic")
    assert not graph.node.get_publishers_info_by_topic(graph.name("front/detections"))


def test_debug_messages_tell_of_batches_and_of_dropped_frames(graph, weights, images):
    level = f"{graph.namespace.strip('/')}.detector:=debug"
    given = {"weights": weights, "device": "cpu", "max_frame_age": 3600.0}
    detector = graph.start_process(NODE, given, more=["--log-level", level])
    camera = PlayedCamera(graph)
    camera.detect(images[0])
    wait_for(lambda: "batch in" in detector.log, "a message about a batch")
    old = camera.header()
    old.stamp.sec -= 7200
    camera.send(images[0], old)
    topic = graph.name("image_raw")
    wait_for(lambda: f"dropped a frame on '{topic}': too old" in detector.log, "the reason")
