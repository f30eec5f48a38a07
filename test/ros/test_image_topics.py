# SPDX-License-Identifier: Apache-2.0
"""The image topics that a detector could work on, and images without a stamp."""

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from played_camera import PlayedCamera
from sensor_msgs.msg import Image as ImageMsg
from std_msgs.msg import Header
from waiting import wait_for

from ssd_ros.ros.image_topics import COMPRESSED, RAW, image_topics


def test_the_outputs_of_detectors_are_not_among_the_image_topics(graph, parameters):
    camera = PlayedCamera(graph, "front/image_raw")
    compressed = PlayedCamera(graph, "rear/image_raw", compressed=True)
    graph.start_detector({**parameters, "image_topics": ["front/image_raw"]})
    annotated = graph.name("front/detections_image")

    def published():
        return graph.node.get_publishers_info_by_topic(annotated)

    wait_for(published, "the annotated image's topic")
    found = image_topics(graph.node)
    own = {name: kind for name, kind in found.items() if name.startswith(graph.namespace)}
    assert own == {camera.topic: RAW, compressed.topic: COMPRESSED}
    other = graph.node.create_publisher(ImageMsg, annotated, 1)  # a camera of that name
    wait_for(lambda: annotated in image_topics(graph.node), "the topic of a camera")
    graph.node.destroy_publisher(other)


def test_images_without_a_stamp_do_not_spoil_the_latency_and_are_told_once(
    graph, parameters, images
):
    graph.start_detector(parameters)
    camera = PlayedCamera(graph)
    for _ in range(3):
        camera.detections.clear()
        camera.detect(images[0], Header(frame_id="camera"))
    status = graph.camera_status(processed=3)
    assert "latency median (ms)" not in status.values
    assert "arrival to publication median (ms)" in status.values
    told = graph.wait_for_log("have the stamp 0")
    assert f"'{camera.topic}'" in told
    for _ in range(2):
        camera.detections.clear()
        camera.detect(images[0])
    graph.next_diagnostics(2)
    assert float(graph.camera_status(processed=5).values["latency median (ms)"]) < 1e6
    assert len(graph.logged("have the stamp 0")) == 1
