# SPDX-License-Identifier: Apache-2.0
"""The calibration that the image source publishes, of a file or of a field of view."""

import math

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from played_camera import stamp_of
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import Image as ImageMsg
from visualization_msgs.msg import MarkerArray
from waiting import wait_for

from ssd_ros.ros.camera_info import from_field_of_view, from_file

MODULE = "ssd_ros.ros.image_source_node"
CALIBRATION = """\
image_width: 640
image_height: 480
camera_name: front
camera_matrix:
  rows: 3
  cols: 3
  data: [500, 0, 330.5, 0, 510, 250, 0, 0, 1]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [0.1, -0.2, 0.001, 0.002, 0]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1, 0, 0, 0, 1, 0, 0, 0, 1]
projection_matrix:
  rows: 3
  cols: 4
  data: [400, 0, 310, 0, 0, 410, 230, 0, 0, 0, 1, 0]
"""


def written(folder, text):
    path = folder / "front.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_file_of_camera_calibration_is_read(tmp_path, prefix):
    info = from_file(f"{prefix}{written(tmp_path, CALIBRATION)}")
    assert (info.width, info.height, info.distortion_model) == (640, 480, "plumb_bob")
    assert list(info.d) == [0.1, -0.2, 0.001, 0.002, 0]
    assert list(info.k) == [500, 0, 330.5, 0, 510, 250, 0, 0, 1]
    assert list(info.r) == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert list(info.p) == [400, 0, 310, 0, 0, 410, 230, 0, 0, 0, 1, 0]


def test_without_a_projection_that_of_the_camera_matrix_is_taken(tmp_path):
    short = CALIBRATION.partition("distortion_model")[0]
    info = from_file(str(written(tmp_path, short)))
    assert list(info.p) == [500, 0, 330.5, 0, 0, 510, 250, 0, 0, 0, 1, 0]
    assert list(info.r) == [1, 0, 0, 0, 1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("image_width: 640", "image_width: wide", "image_width .* got 'wide'"),
        ("image_height: 480", "", "image_height .* got None"),
        ("image_height: 480", "image_height: -1", "image_height .* got -1"),
        ("data: [500, 0, ", "data: [", "camera_matrix must have 9 numbers"),
        ("data: [500", "data: [.nan", "camera_matrix must have 9 numbers"),
        ("data: [400", "data: [{}", "projection_matrix must have 12 numbers"),
        (CALIBRATION, "no calibration", "expected a mapping"),
        (CALIBRATION, "a: [", "while parsing"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused_with_name_and_reason(tmp_path, old, new, reason):
    assert old in CALIBRATION
    path = written(tmp_path, CALIBRATION.replace(old, new))
    with pytest.raises(ValueError, match=rf"'{path}' is not a camera calibration: [^$]*{reason}"):
        from_file(str(path))


def test_a_field_of_view_sees_the_edge_of_the_image_at_half_its_angle():
    info = from_field_of_view(640, 480, 90.0)
    focal, centre = info.k[0], info.k[2]
    assert math.degrees(math.atan((640 - centre) / focal)) == pytest.approx(45)
    assert (info.k[4], info.k[5]) == (focal, 240)
    np.testing.assert_array_equal(
        np.reshape(info.p, (3, 4))[:, :3].ravel(), info.k, "no rectification"
    )


def test_each_image_has_a_camera_info_of_its_header_and_size(graph, image_folder, images):
    infos, heard = graph.hear(CameraInfo, "camera_info"), graph.hear(ImageMsg, "image_raw")
    once = {"source": str(image_folder), "loop": False, "frame_id": "lens", "fov": 60.0}
    source = graph.start_process(MODULE, once)
    assert source.exit_code() == 0, source.log
    wait_for(lambda: len(heard) == len(infos) == len(images), "all images")
    for image, info in zip(heard, infos, strict=True):
        assert stamp_of(info.header) == stamp_of(image.header)
        assert (info.width, info.height) == (image.width, image.height)
        assert info.k[2] == image.width / 2


def test_a_calibration_file_is_published_as_it_is(graph, image_folder, tmp_path):
    infos = graph.hear(CameraInfo, "camera_info")
    url = f"file://{written(tmp_path, CALIBRATION)}"
    graph.start_process(MODULE, {"source": str(image_folder), "camera_info_url": url})
    info = wait_for(lambda: infos, "a camera_info")[0]
    assert (info.width, info.p[0]) == (640, 400)
    assert info.header.frame_id == "camera"


def test_the_calibration_follows_a_remapped_image_topic(graph, weights, image_folder):
    """The detector looks for it there, too."""
    rule = ["-r", f"image_raw:={graph.name('front/image')}"]
    heard = graph.hear(MarkerArray, "front/detections_markers")
    detector = {"weights": weights, "device": "cpu", "markers": True}
    graph.start_process("ssd_ros.ros.detector_node", detector, more=rule)
    graph.start_process(MODULE, {"source": str(image_folder), "fov": 60.0}, more=rule)
    wait_for(lambda: any(len(message.markers) > 1 for message in heard), "outlines")


def test_a_calibration_that_cannot_be_read_ends_the_source_with_the_reason(graph, image_folder):
    missing = {"source": str(image_folder), "camera_info_url": "/no/such.yaml"}
    source = graph.start_process(MODULE, missing)
    assert source.exit_code() == 1
    assert "/no/such.yaml" in source.log
    assert "Traceback" not in source.log


def test_the_detectors_outlines_can_be_tried_without_a_camera(graph, parameters, image_folder):
    graph.start_detector({**parameters, "markers": True})
    heard = graph.hear(MarkerArray, "detections_markers")
    graph.start_process(MODULE, {"source": str(image_folder), "fov": 60.0})
    wait_for(lambda: any(len(message.markers) > 1 for message in heard), "outlines")
