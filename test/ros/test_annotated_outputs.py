# SPDX-License-Identifier: Apache-2.0
"""What a camera publishes to look at: raw, as JPEG and as annotations, drawn once."""

import time

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from played_camera import PlayedCamera, boxes_in, stamp_of
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMsg
from waiting import wait_for

from ssd_ros import drawing
from ssd_ros.detections import Detections
from ssd_ros.drawing import AnnotatedFrame
from ssd_ros.image import Image, ImageError
from ssd_ros.messages.images import image_from_compressed_msg

NONE = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


@pytest.fixture
def counted(monkeypatch):
    """How often images were drawn and encoded."""
    counts = {"annotate": 0, "imencode": 0}

    def count(module, name):
        original = getattr(module, name)

        def counting(*given):
            counts[name] += 1
            return original(*given)

        monkeypatch.setattr(module, name, counting)

    count(drawing, "annotate")
    count(cv2, "imencode")
    return counts


def test_the_jpeg_is_the_annotated_image_with_the_frame_s_header(
    graph, parameters, images, counted
):
    graph.start_detector(parameters)
    camera = PlayedCamera(graph)
    camera.detect(images[0])
    assert counted == {"annotate": 0, "imencode": 0}
    compressed = graph.hear(CompressedImage, "detections_image/compressed")
    raw = graph.hear(ImageMsg, "detections_image")

    def both():
        time.sleep(0.05)  # between two images sent
        camera.send(images[0])
        stamps = {stamp_of(message.header) for message in raw}
        return [m for m in compressed if stamp_of(m.header) in stamps]

    message = wait_for(both, "both annotated images")[0]
    (drawn,) = (m for m in raw if stamp_of(m.header) == stamp_of(message.header))
    assert message.format == "bgr8; jpeg compressed bgr8"  # as image_transport's
    assert stamp_of(message.header) in {stamp_of(m.header) for m in camera.detections}
    shown = image_from_compressed_msg(message).pixels
    pixels = np.frombuffer(drawn.data, np.uint8).reshape(images[0].shape)
    assert shown.shape == pixels.shape
    quality = (cv2.IMWRITE_JPEG_QUALITY, drawing.JPEG_QUALITY)
    assert bytes(message.data) == cv2.imencode(".jpg", pixels, quality)[1].tobytes()


def test_annotations_have_the_boxes_of_the_detections_and_the_image_s_stamp(
    graph, parameters, images
):
    foxglove_msgs = pytest.importorskip("foxglove_msgs.msg", reason="needs foxglove_msgs")
    graph.start_detector(parameters)
    camera = PlayedCamera(graph)
    camera.detect(images[0])
    annotations = graph.hear(foxglove_msgs.ImageAnnotations, "annotations")
    annotated = wait_for(
        lambda: camera.detect(images[0]) and [a for a in annotations if a.points], "annotations"
    )[0]
    stamps = {
        (one.timestamp.sec, one.timestamp.nanosec) for one in annotated.points + annotated.texts
    }
    (stamp,) = stamps
    assert (annotated.timestamp.sec, annotated.timestamp.nanosec) == stamp
    assert (*stamp, "camera") in camera.sent
    (detections,) = (m for m in camera.detections if stamp_of(m.header) == (*stamp, "camera"))
    boxes = [
        (outline.points[0].x, outline.points[0].y, outline.points[2].x, outline.points[2].y)
        for outline in reversed(annotated.points)
    ]
    np.testing.assert_allclose(boxes, boxes_in(detections), atol=0.01)


def test_a_frame_is_drawn_and_encoded_when_asked_for_and_once(counted):
    frame = AnnotatedFrame(Image(np.zeros((48, 64, 3), np.uint8)), NONE, [])
    assert counted == {"annotate": 0, "imencode": 0}
    assert frame.jpeg() is frame.jpeg()
    assert frame.canvas() is frame.canvas()
    assert counted == {"annotate": 1, "imencode": 1}


def test_an_image_too_large_for_jpeg_is_an_error_that_says_so():
    frame = AnnotatedFrame(Image(np.zeros((1, 65_501, 3), np.uint8)), NONE, [])
    with pytest.raises(ImageError, match="65501x1 is too large for JPEG"):
        frame.jpeg()
    assert AnnotatedFrame(Image(np.zeros((1, 65_500, 3), np.uint8)), NONE, []).jpeg().size
