# SPDX-License-Identifier: Apache-2.0
"""Outlines before the camera: seen through the camera they lie on the detections."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from diagnostic_msgs.msg import DiagnosticStatus
from played_camera import PlayedCamera, boxes_in, names_in, stamp_of
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from services import Services
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray
from waiting import wait_for

from ssd_ros.detections import Detections
from ssd_ros.messages.markers import outlines

FOUND = Detections(
    np.array([[10, 20, 110, 220], [300, 40, 640, 480]], np.float32),
    np.array([0.9, 0.6], np.float32),
    np.array([1, 0]),
)
K = (500.0, 0.0, 330.0, 0.0, 510.0, 250.0, 0.0, 0.0, 1.0)


def calibration(width=640, height=480, rectified=False):
    info = CameraInfo(width=width, height=height, k=K)
    if rectified:
        info.p = (400.0, 0.0, 310.0, 0.0, 0.0, 410.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    return info


def seen(marker, focal, centre):
    """Where a camera sees the points of a marker."""
    points = np.array([(point.x, point.y, point.z) for point in marker.points])
    return points[:, :2] / points[:, 2:] * focal + centre


@pytest.mark.parametrize(
    ("info", "focal", "centre", "zoom"),
    [
        (calibration(), (500, 510), (330, 250), 1),
        (calibration(rectified=True), (400, 410), (310, 230), 1),
        (calibration(1280, 960), (500, 510), (330, 250), 2),  # calibrated at twice the size
    ],
)
def test_outlines_seen_through_the_camera_lie_on_the_boxes(info, focal, centre, zoom):
    header = Header(frame_id="lens_optical_frame")
    markers = outlines(header, FOUND, ["cat", "cup"], (640, 480), info).markers
    assert markers[0].action == Marker.DELETEALL
    assert {marker.header.frame_id for marker in markers} == {"lens_optical_frame"}
    boxes = [marker for marker in markers if marker.ns == "boxes"]
    for (x1, y1, x2, y2), marker in zip(FOUND.boxes * zoom, boxes, strict=True):
        corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]
        np.testing.assert_allclose(seen(marker, focal, centre), corners, atol=1e-3)
    assert [m.text for m in markers if m.ns == "names"] == ["cup 0.90", "cat 0.60"]
    assert len({(m.ns, m.id) for m in markers[1:]}) == 4


@pytest.mark.parametrize("binning", [1, 2])
def test_outlines_of_a_region_of_interest_lie_on_the_boxes(binning):
    """A frame of 640x480 (320x240 with binning) from x 100, y 60 of a sensor of 1280x960."""
    info = calibration(1280, 960)
    info.roi = RegionOfInterest(x_offset=100, y_offset=60, width=640, height=480)
    info.binning_x = info.binning_y = binning
    detections = Detections(FOUND.boxes / binning, FOUND.scores, FOUND.labels)
    size = (640 // binning, 480 // binning)
    markers = outlines(Header(), detections, ["cat", "cup"], size, info).markers
    boxes = [marker for marker in markers if marker.ns == "boxes"]
    for (x1, y1, x2, y2), marker in zip(FOUND.boxes, boxes, strict=True):
        corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]) + (100, 60)
        np.testing.assert_allclose(seen(marker, (500, 510), (330, 250)), corners, atol=1e-3)


def test_a_camera_that_is_not_calibrated_and_a_frame_of_nothing_only_delete():
    nothing = Detections(np.empty((0, 4), np.float32), np.empty(0), np.empty(0, int))
    for found, info in ((FOUND, CameraInfo()), (nothing, calibration())):
        markers = outlines(Header(), found, ["cat", "cup"], (640, 480), info).markers
        assert [marker.action for marker in markers] == [Marker.DELETEALL]


class OtherMessage(SimpleNamespace):
    """A message of another library: a field that was not set yet is a message, too."""

    DELETEALL, LINE_STRIP, TEXT_VIEW_FACING = 3, 4, 9

    def __getattr__(self, name):
        setattr(self, name, OtherMessage())
        return getattr(self, name)


def test_the_messages_can_be_of_other_classes():
    other = SimpleNamespace(Marker=OtherMessage, MarkerArray=OtherMessage)
    arguments = (Header(frame_id="lens"), FOUND, ["cat", "cup"], (640, 480), calibration())
    expected = outlines(*arguments).markers
    found = outlines(*arguments, other).markers
    assert [type(marker) for marker in found] == [OtherMessage] * 5
    for marker, marker_of_ros in zip(found, expected, strict=True):
        assert marker.header == marker_of_ros.header
    for marker, marker_of_ros in zip(found[1:], expected[1:], strict=True):
        for field in ("ns", "id", "type"):
            assert getattr(marker, field) == getattr(marker_of_ros, field)
        assert marker.color.r == pytest.approx(marker_of_ros.color.r)
        assert marker.lifetime.sec == marker_of_ros.lifetime.sec == 1
    assert [(p.x, p.y) for p in found[1].points] == [(p.x, p.y) for p in expected[1].points]


def test_the_node_publishes_outlines_of_the_same_frame(graph, weights, images):
    graph.start_detector({"weights": weights, "device": "cpu", "markers": True})
    heard = graph.hear(MarkerArray, "detections_markers")
    infos = graph.node.create_publisher(
        CameraInfo, graph.name("camera_info"), qos_profile_sensor_data
    )
    wait_for(infos.get_subscription_count, "a subscription to camera_info")
    height, width = images[0].shape[:2]
    info = calibration(width, height)
    graph.node.create_timer(0.05, lambda: infos.publish(info))
    camera = PlayedCamera(graph)
    camera.detect(images[0])
    wait_for(lambda: camera.detect(images[0]) and heard, "markers")
    newest = heard[-1].markers
    camera.wait_for_answer(stamp_of(newest[0].header))
    answer = next(
        message
        for message in camera.detections
        if stamp_of(message.header) == stamp_of(newest[0].header)
    )
    boxes = [marker for marker in newest if marker.ns == "boxes"]
    assert [m.text.split()[0] for m in newest if m.ns == "names"] == names_in(answer)
    for (x1, y1, x2, y2), marker in zip(boxes_in(answer), boxes, strict=True):
        corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]
        np.testing.assert_allclose(seen(marker, (500, 510), (330, 250)), corners, atol=0.1)
    assert not Services(graph).set("markers", False).successful


def test_markers_that_cannot_be_made_are_reported_with_the_reason(graph, parameters, images):
    graph.start_detector({**parameters, "markers": True, "image_timeout": 1.0})
    camera = PlayedCamera(graph)
    camera.stream(images[0], 10)
    start = f"no detections_markers, for '{graph.name('camera_info')}'"
    graph.wait_for_log(f"{start} has no publishers")
    assert graph.camera_status().level == DiagnosticStatus.WARN

    infos = graph.node.create_publisher(CameraInfo, graph.name("camera_info"), 1)
    newest = [CameraInfo(width=320, height=240)]
    graph.node.create_timer(0.1, lambda: infos.publish(newest[0]))
    graph.wait_for_log(f"{start} is not calibrated")
    newest[0] = calibration(320, 240)
    wait_for(lambda: graph.camera_status().level == DiagnosticStatus.OK, "the status")
