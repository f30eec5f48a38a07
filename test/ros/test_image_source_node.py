# SPDX-License-Identifier: Apache-2.0
"""The image source through its topics and parameters: folders, videos, transports, errors."""

import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from graph import ROOT
from made_images import made_image
from played_camera import stamp_of
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMsg
from services import Services
from waiting import wait_for

from ssd_ros.messages.images import image_from_compressed_msg, image_from_msg
from ssd_ros.ros.image_source_node import WARN_EVERY, ImageSource

MODULE = "ssd_ros.ros.image_source_node"


def once(source, **others):
    return {"source": str(source), "loop": False, "rate": 20.0, **others}


def stamps(messages):
    return [stamp_of(message.header)[:2] for message in messages]


def test_a_folder_is_published_once_in_name_order_with_rising_stamps(graph, image_folder, images):
    heard = graph.hear(ImageMsg, "image_raw")
    source = graph.start_process(MODULE, once(image_folder, frame_id="lens"))
    assert source.exit_code() == 0, source.log
    wait_for(lambda: len(heard) >= len(images), "all images")
    for message, image in zip(heard, images, strict=True):
        np.testing.assert_array_equal(image_from_msg(message).pixels, image)
        assert (message.encoding, message.header.frame_id) == ("bgr8", "lens")
    assert stamps(heard) == sorted(set(stamps(heard)))
    assert f"published {len(images)} images" in source.log


def test_compressed_images_decode_to_the_images_of_the_folder(graph, tmp_path):
    smooth = [cv2.GaussianBlur(made_image(seed, 160, 120), (0, 0), 3) for seed in range(3)]
    (tmp_path / "images").mkdir()
    for i, image in enumerate(smooth):
        cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), image)
    heard = graph.hear(CompressedImage, "image_raw/compressed")
    source = graph.start_process(
        MODULE, once(tmp_path / "images", transport="compressed", jpeg_quality=95)
    )
    assert source.exit_code() == 0, source.log
    wait_for(lambda: len(heard) >= len(smooth), "all images")
    for message, image in zip(heard, smooth, strict=True):
        decoded = image_from_compressed_msg(message).pixels
        assert np.abs(decoded.astype(int) - image).mean() < 3
        assert "jpeg" in message.format
    assert not graph.node.get_publishers_info_by_topic(graph.name("image_raw"))


def test_a_video_is_published_image_by_image(graph, tmp_path):
    video = tmp_path / "video.avi"
    greys = [20, 90, 160, 230]
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for grey in greys:
        writer.write(np.full((48, 64, 3), grey, np.uint8))
    writer.release()
    heard = graph.hear(ImageMsg, "image_raw")
    source = graph.start_process(MODULE, once(video))
    assert source.exit_code() == 0, source.log
    wait_for(lambda: len(heard) >= len(greys), "all images")
    shades = [image_from_msg(message).pixels.mean() for message in heard]
    np.testing.assert_allclose(shades, greys, atol=3)
    assert {(message.width, message.height) for message in heard} == {(64, 48)}


def test_a_looping_source_goes_on_past_a_broken_file_until_it_is_interrupted(graph, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((20, 30, 3), 50, np.uint8))
    (tmp_path / "b.png").write_bytes(b"no image")
    cv2.imwrite(str(tmp_path / "c.png"), np.full((20, 30, 3), 200, np.uint8))
    heard = graph.hear(ImageMsg, "image_raw")
    start = time.monotonic()
    source = graph.start_process(MODULE, {"source": str(tmp_path), "rate": 50})
    wait_for(lambda: len(heard) >= 5, "images of the second round")
    shades = [message.data[0] for message in heard[:5]]
    assert shades in ([50, 200, 50, 200, 50], [200, 50, 200, 50, 200])
    wait_for(lambda: "b.png" in source.log, "the warning that names the file")
    wait_for(lambda: len(heard) >= 40, "images of twenty rounds")
    took = time.monotonic() - start
    assert 1 <= source.log.count("b.png") <= 1 + took / WARN_EVERY
    source.send(signal.SIGINT)
    assert source.exit_code() == 0, source.log


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"source": "/no/such/folder"}, "cannot open source '/no/such/folder'"),
        ({"source": 9}, "cannot open source '9'"),  # a webcam's number, an integer parameter
        ({"source": "{folder}", "rate": 0.0}, "rate"),
    ],
)
def test_a_wrong_parameter_gives_a_clear_error_and_exit_code_1(graph, image_folder, given, named):
    given = {
        name: value.format(folder=image_folder) if isinstance(value, str) else value
        for name, value in given.items()
    }
    source = graph.start_process(MODULE, given)
    assert source.exit_code() == 1, source.log
    assert named in source.log
    assert "Traceback" not in source.log


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "'source' is empty"),
        ({"source": "/no/such/video.mp4"}, "'/no/such/video.mp4'"),
        ({"source": "/", "transport": "theora"}, "'theora'"),
        ({"source": "/"}, "'/' holds no images"),
    ],
)
def test_the_error_of_a_source_names_what_was_given(rclpy_started, given, named):
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    with pytest.raises((ValueError, OSError), match=named):
        ImageSource(parameter_overrides=overrides)


def test_a_request_that_it_cannot_read_is_answered_and_images_go_on(graph, image_folder):
    heard = graph.hear(ImageMsg, "image_raw")
    source = graph.start_process(MODULE, {"source": str(image_folder)})
    wait_for(lambda: heard, "an image")
    bad = ParameterMsg(name="rate", value=ParameterValue(type=77))
    node = Services(graph, "image_source")
    answer = node.call(SetParameters, "set_parameters", parameters=[bad])
    assert [result.successful for result in answer.results] == [False]
    assert "77" in answer.results[0].reason
    heard.clear()
    wait_for(lambda: heard, "a further image")
    source.send(signal.SIGTERM)
    assert source.exit_code() == 0, source.log


def test_a_camera_made_of_files_needs_no_pytorch():
    loaded = "import sys, ssd_ros.ros.image_source_node; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"
