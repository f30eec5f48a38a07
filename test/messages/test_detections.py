# SPDX-License-Identifier: Apache-2.0
"""Detections as messages: what consumers find in them."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from made_weights import CLASSES
from played_camera import boxes_in, names_in, scores_in
from std_msgs.msg import Header

from ssd_ros.detections import Detections
from ssd_ros.messages.detections import detection_array, label_info

BOXES = np.array([[10, 20, 40, 100], [0, 0, 0.5, 0.25], [1.5, 2.5, 639.5, 479.5]], np.float32)


@pytest.fixture
def header():
    header = Header(frame_id="lens")
    header.stamp.sec, header.stamp.nanosec = 12, 345
    return header


@pytest.fixture
def detections():
    return Detections(BOXES, np.array([0.9, 0.8, 0.7], np.float32), np.array([2, 0, 2]))


def test_a_message_holds_names_scores_and_boxes_best_first(header, detections):
    message = detection_array(header, detections, CLASSES)
    assert names_in(message) == ["cone", "cube", "cone"]
    np.testing.assert_allclose(scores_in(message), [0.9, 0.8, 0.7])
    np.testing.assert_allclose(boxes_in(message), BOXES)
    assert all(len(found.results) == 1 for found in message.detections)


def test_a_box_is_its_centre_and_size_in_pixels(header, detections):
    box = detection_array(header, detections, CLASSES).detections[0].bbox
    assert (box.center.position.x, box.center.position.y, box.center.theta) == (25, 60, 0)
    assert (box.size_x, box.size_y) == (30, 80)


def test_the_frames_header_is_in_the_message_and_in_each_detection(header, detections):
    message = detection_array(header, detections, CLASSES)
    assert [message.header, *(found.header for found in message.detections)] == [header] * 4


def test_an_image_without_detections_still_gives_a_message(header):
    nothing = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, int))
    message = detection_array(header, nothing, CLASSES)
    assert (message.header, list(message.detections)) == (header, [])


def test_label_info_numbers_the_classes_as_the_detections_do(header):
    info = label_info(header, CLASSES, 0.25)
    table = {entry.class_id: entry.class_name for entry in info.class_map}
    assert table == {0: "cube", 1: "ball", 2: "cone"}
    assert (info.header, info.threshold) == (header, 0.25)


class OtherMessages:
    """Message classes of another library: any name is a class that keeps its fields."""

    def __getattr__(self, name):
        return SimpleNamespace


def test_the_messages_can_be_of_other_classes(detections):
    header = SimpleNamespace(frame_id="lens")
    message = detection_array(header, detections, CLASSES, OtherMessages())
    assert isinstance(message, SimpleNamespace)
    assert message.header is header
    assert names_in(message) == ["cone", "cube", "cone"]
    np.testing.assert_allclose(boxes_in(message), BOXES)
    info = label_info(header, CLASSES, 0.25, OtherMessages())
    assert [entry.class_name for entry in info.class_map] == list(CLASSES)
