# SPDX-License-Identifier: Apache-2.0
"""Image messages and the images in them: every encoding, padding, reduced and turned JPEGs."""

import array
import io
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from made_images import made_image
from PIL import Image as PillowImage
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMsg
from std_msgs.msg import Header

from ssd_ros.detector import network_input
from ssd_ros.image import Image, ImageError
from ssd_ros.messages.images import (
    fill_compressed_image,
    fill_image,
    image_from_compressed_msg,
    image_from_msg,
)

PADDING = 13
COLOUR = (40, 120, 200)  # blue, green, red


def image_message(encoding: str, rows: np.ndarray, padding: int = 0, **fields) -> ImageMsg:
    """A message of pixels (H, W, C) of any type, its rows padded with noise."""
    height, width = rows.shape[:2]
    packed = np.ascontiguousarray(rows).view(np.uint8).reshape(height, -1)
    noise = np.random.default_rng(0).integers(0, 256, (height, padding), dtype=np.uint8)
    padded = np.concatenate((packed, noise), axis=1)
    return ImageMsg(
        height=height,
        width=width,
        encoding=encoding,
        step=padded.shape[1],
        data=array.array("B", padded.tobytes()),
        **fields,
    )


def compressed_message(data: bytes | np.ndarray) -> CompressedImage:
    return CompressedImage(format="jpeg", data=array.array("B", bytes(data)))


# --- encodings that lie as the detector takes them --------------------------------------------


@pytest.mark.parametrize("padding", [0, PADDING])
@pytest.mark.parametrize(
    ("encoding", "channels", "order"),
    [
        ("rgb8", 3, "rgb"),
        ("bgr8", 3, "bgr"),
        ("8UC3", 3, "bgr"),
        ("rgba8", 4, "rgba"),
        ("bgra8", 4, "bgra"),
        ("8UC4", 4, "bgra"),
        ("mono8", 1, "mono"),
        ("8UC1", 1, "mono"),
    ],
)
def test_eight_bit_encodings_are_viewed_without_a_copy(encoding, channels, order, padding):
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    message = image_message(encoding, pixels, padding)
    image = image_from_msg(message)
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.order == order
    assert (image.width, image.height) == (7, 5)
    assert np.shares_memory(image.pixels, np.frombuffer(message.data, np.uint8))


# --- encodings that are converted -------------------------------------------------------------


def plain(width=8, height=6, colour=COLOUR, dtype=np.uint8):
    return np.full((height, width, 3), colour, dtype)


def bayer(pattern, dtype=np.uint8):
    """A plain image as a sensor with the pattern of its name sees it."""
    blue, green, red = COLOUR
    values = {"r": red, "g": green, "b": blue}
    cell = np.array([values[letter] for letter in pattern]).reshape(2, 2)
    return np.tile(cell, (4, 5)).astype(dtype) * (257 if dtype == np.uint16 else 1)


def packed_yuv(order):
    """A plain image as YUV 4:2:2: two pixels share a U and a V."""
    blue, green, red = (value / 255 for value in COLOUR)
    values = {  # ITU-R BT.601
        "y": 16 + 65.481 * red + 128.553 * green + 24.966 * blue,
        "u": 128 - 37.797 * red - 74.203 * green + 112.0 * blue,
        "v": 128 + 112.0 * red - 93.786 * green - 18.214 * blue,
    }
    pair = np.array([[values[order[0]], values[order[1]]], [values[order[2]], values[order[3]]]])
    return np.tile(pair.round().astype(np.uint8), (6, 4, 1))


CONVERTED = {
    "bgr16": plain(dtype=np.uint16) * 257,
    "rgb16": plain(dtype=np.uint16)[..., ::-1] * 257,
    "bgra16": np.dstack((plain(dtype=np.uint16) * 257, np.full((6, 8), 9, np.uint16))),
    "rgba16": np.dstack((plain(dtype=np.uint16)[..., ::-1] * 257, np.full((6, 8), 9, np.uint16))),
    "yuv422": packed_yuv("uyvy"),
    "uyvy": packed_yuv("uyvy"),
    "yuv422_yuy2": packed_yuv("yuyv"),
    "yuyv": packed_yuv("yuyv"),
    **{f"bayer_{pattern}8": bayer(pattern) for pattern in ("rggb", "bggr", "gbrg", "grbg")},
    **{
        f"bayer_{pattern}16": bayer(pattern, np.uint16)
        for pattern in ("rggb", "bggr", "gbrg", "grbg")
    },
}


@pytest.mark.parametrize("padding", [0, PADDING])
@pytest.mark.parametrize("encoding", CONVERTED)
def test_a_plain_image_keeps_its_colour_in_every_converted_encoding(encoding, padding):
    message = image_message(encoding, CONVERTED[encoding], padding)
    image = image_from_msg(message)
    assert image.order == "bgr"
    assert image.pixels.shape == (message.height, message.width, 3)
    tolerance = 4 if "yu" in encoding or "uy" in encoding else 1
    assert np.abs(image.pixels.astype(int) - COLOUR).max() <= tolerance


def semi_planar(encoding):
    """COLOUR as a plane of Y, then one of U and V, in rows of 8 bytes: (rows, 8)."""
    u, y, v, _ = packed_yuv("uyvy")[0, :2].ravel()
    pair = [v, u] if encoding == "nv21" else [u, v]
    chroma_rows = 12 if encoding == "nv24" else 3
    return np.concatenate((np.full((6, 8), y), np.tile(pair, (chroma_rows, 4)))).astype(np.uint8)


def semi_planar_message(encoding, planes, height, padding=0):
    """A message of planes (rows, width); a row of nv24's second plane has twice the bytes."""
    message = image_message(encoding, planes[:height], padding)
    chroma = planes[height:]
    if encoding == "nv24":
        chroma = chroma.reshape(height, -1)
        padding *= 2
    message.data += image_message(encoding, chroma, padding).data
    return message


@pytest.mark.parametrize("padding", [0, PADDING])
@pytest.mark.parametrize("encoding", ["nv12", "nv21", "nv24"])
def test_semi_planar_yuv_keeps_its_colour_whatever_the_stride(encoding, padding):
    message = semi_planar_message(encoding, semi_planar(encoding), 6, padding)
    image = image_from_msg(message)
    assert (image.order, image.pixels.shape) == ("bgr", (6, 8, 3))
    assert np.abs(image.pixels.astype(int) - COLOUR).max() <= 4


@pytest.mark.parametrize("step", [0, 12])  # not set; bytes of all planes divided by the height
def test_the_step_of_semi_planar_yuv_without_padding_does_not_matter(step):
    message = semi_planar_message("nv12", semi_planar("nv12"), 6)
    message.step = step
    assert np.abs(image_from_msg(message).pixels.astype(int) - COLOUR).max() <= 4


@pytest.mark.parametrize("encoding", ["nv12", "nv24"])
def test_the_places_of_semi_planar_yuv_are_those_of_the_image(encoding):
    coarse = np.random.default_rng(3).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    original = coarse.repeat(8, axis=0).repeat(8, axis=1)
    planes = cv2.split(cv2.cvtColor(original, cv2.COLOR_BGR2YUV_I420))[0]
    y, (u, v) = planes[:48], planes[48:].reshape(2, 24, 32)
    pairs = np.dstack((u, v))
    if encoding == "nv24":
        pairs = pairs.repeat(2, 0).repeat(2, 1)
    planes = np.concatenate((y, pairs.reshape(-1, 64)))
    message = semi_planar_message(encoding, planes, 48)
    assert np.abs(image_from_msg(message).pixels.astype(int) - original).max() <= 6


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", [0, PADDING])
def test_floating_point_grey_shows_what_is_there_in_either_byte_order(big_endian, padding):
    metres = np.full((20, 30), 2.0, ">f4" if big_endian else "<f4")
    metres[:10] = 3.0
    metres[5, 5:8] = np.nan, np.inf, -np.inf
    message = image_message("32FC1", metres, padding, is_bigendian=int(big_endian))
    image = image_from_msg(message, "12bit")
    expected = np.zeros((20, 30), np.uint8)
    expected[:10] = 255
    expected[5, 5:8] = 0, 255, 0
    assert image.order == "mono"
    np.testing.assert_array_equal(image.pixels, expected)


@pytest.mark.parametrize("encoding", ["mono16", "16UC1"])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", [0, PADDING])
def test_sixteen_bit_grey_is_scaled_to_eight_bits_in_either_byte_order(
    encoding, big_endian, padding
):
    grey = np.array([[0, 0x4000, 0x8000, 0xFFFF]] * 3, ">u2" if big_endian else "<u2")
    message = image_message(encoding, grey, padding, is_bigendian=int(big_endian))
    pixels = image_from_msg(message).pixels
    expected = [[0, 64, 128, 255]] * 3
    np.testing.assert_allclose(pixels.astype(int), expected, atol=1)


# --- messages made from images --------------------------------------------------------------


@pytest.mark.parametrize(("encoding", "channels"), [("bgr8", 3), ("rgb8", 3), ("rgba8", 4)])
def test_fill_image_is_undone_by_image_from_msg(encoding, channels):
    pixels = np.random.default_rng(2).integers(0, 256, (9, 11, channels), dtype=np.uint8)
    header = Header(frame_id="lens")
    header.stamp.sec = 7
    message = fill_image(ImageMsg(header=header), pixels, encoding)
    assert message.header == header
    np.testing.assert_array_equal(image_from_msg(message).pixels, pixels)


def test_fill_image_takes_grey_images_and_parts_of_images():
    pixels = np.random.default_rng(3).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    grey = image_from_msg(fill_image(ImageMsg(), pixels[..., 0], "mono8"))
    np.testing.assert_array_equal(grey.pixels[..., 0], pixels[..., 0])
    part = image_from_msg(fill_image(ImageMsg(), pixels[2:5, 3:8], "bgr8"))
    np.testing.assert_array_equal(part.pixels, pixels[2:5, 3:8])


def test_fill_compressed_image_stores_a_jpeg_and_keeps_the_header():
    pixels = cv2.GaussianBlur(made_image(4, 160, 120), (0, 0), 3)
    header = Header(frame_id="lens")
    message = fill_compressed_image(CompressedImage(header=header), pixels, 95)
    assert (message.header, "jpeg" in message.format) == (header, True)
    decoded = image_from_compressed_msg(message).pixels
    assert np.abs(decoded.astype(int) - pixels).mean() < 3
    smaller = fill_compressed_image(CompressedImage(), pixels, 20)
    assert len(smaller.data) < len(message.data)


# --- messages of other classes, as libraries make them that read bags without ROS -------------


@pytest.mark.parametrize("encoding", ["bgr8", "yuyv"])
def test_messages_of_any_class_are_read(encoding):
    pixels = plain() if encoding == "bgr8" else packed_yuv("yuyv")
    own = image_message(encoding, pixels, PADDING)
    fields = ("height", "width", "encoding", "step", "is_bigendian")
    other = SimpleNamespace(**{name: getattr(own, name) for name in fields})
    other.data = np.array(own.data)
    np.testing.assert_array_equal(image_from_msg(other).pixels, image_from_msg(own).pixels)


def test_compressed_messages_of_any_class_are_read():
    data = cv2.imencode(".png", made_image(2, 30, 20))[1].ravel()
    image = image_from_compressed_msg(SimpleNamespace(format="png", data=data))
    np.testing.assert_array_equal(image.pixels, made_image(2, 30, 20))


# --- compressed images ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height", "reduction"),
    [(599, 800, 1), (600, 800, 2), (1300, 700, 2), (1200, 1200, 4), (2400, 2500, 8)],
)
def test_a_large_jpeg_is_decoded_smaller_but_keeps_its_size_for_the_boxes(width, height, reduction):
    message = compressed_message(cv2.imencode(".jpg", made_image(1, width, height))[1])
    image = image_from_compressed_msg(message, min_size=300)
    assert (image.width, image.height) == (width, height)
    assert image.pixels.shape == (-(-height // reduction), -(-width // reduction), 3)
    assert min(image.pixels.shape[:2]) >= 300  # never below what the network sees
    full = image_from_compressed_msg(message)
    assert full.pixels.shape == (height, width, 3)
    assert (full.width, full.height) == (width, height)


@pytest.mark.parametrize(("min_size", "side"), [(1001, 1000), (512, 1000), (500, 500), (125, 125)])
def test_the_caller_says_how_small_a_jpeg_may_be_decoded(min_size, side):
    message = compressed_message(cv2.imencode(".jpg", made_image(1, 1000, 1000))[1])
    image = image_from_compressed_msg(message, min_size=min_size)
    assert image.pixels.shape == (side, side, 3)


def test_a_reduced_jpeg_shows_the_whole_image():
    original = cv2.GaussianBlur(made_image(1, 1200, 900), (0, 0), 5)
    image = image_from_compressed_msg(
        compressed_message(cv2.imencode(".jpg", original, (cv2.IMWRITE_JPEG_QUALITY, 95))[1]),
        min_size=300,
    )
    assert image.pixels.shape == (450, 600, 3)
    height, width = image.pixels.shape[:2]
    smaller = cv2.resize(original, (width, height), interpolation=cv2.INTER_AREA)
    assert np.abs(image.pixels.astype(int) - smaller).mean() < 3


@pytest.mark.parametrize("size", [(800, 600), (1200, 900), (2500, 1301), (1000, 5000)])
def test_raw_and_compressed_images_are_the_same_to_the_network(size):
    original = made_image(1, *size)
    quality = (cv2.IMWRITE_JPEG_QUALITY, 100)
    message = compressed_message(cv2.imencode(".jpg", original, quality)[1])
    reduced = image_from_compressed_msg(message, min_size=300)
    assert reduced.pixels.shape[0] < size[1]
    seen, expected = (network_input([image])[0].astype(int) for image in (reduced, Image(original)))
    noisy = cv2.cvtColor(cv2.resize(original, (300, 300)), cv2.COLOR_BGR2RGB)  # not averaged
    assert np.abs(seen - expected).mean() < 0.3 * np.abs(seen - noisy).mean()


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_files_without_loss_come_back_as_they_were(suffix):
    original = made_image(2, 1300, 700)
    message = compressed_message(cv2.imencode(suffix, original)[1])
    image = image_from_compressed_msg(message, min_size=300)
    np.testing.assert_array_equal(image.pixels, original)
    assert (image.width, image.height, image.order) == (1300, 700, "bgr")


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_pngs_become_colour(channels):
    original = np.dstack((made_image(2, 30, 20), np.full((20, 30), 200, np.uint8)))
    original = original if channels == 4 else original[..., 0]
    image = image_from_compressed_msg(compressed_message(cv2.imencode(".png", original)[1]))
    assert image.pixels.shape == (20, 30, 3)
    np.testing.assert_array_equal(image.pixels[..., 0], original.reshape(20, 30, -1)[..., 0])


@pytest.mark.parametrize(("width", "height"), [(40, 30), (1400, 700)])
def test_a_jpeg_is_taken_as_it_lies_in_the_sensor_whatever_its_exif_says(width, height):
    upright = made_image(3, width, height)
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees to see it upright
    file = io.BytesIO()
    PillowImage.fromarray(upright[..., ::-1]).save(file, "JPEG", exif=exif, quality=95)
    image = image_from_compressed_msg(compressed_message(file.getvalue()), min_size=300)
    assert (image.width, image.height) == (width, height)
    assert image.pixels.shape[1] > image.pixels.shape[0]


def test_a_jpeg_with_padding_behind_its_end_is_whole():
    _, data = cv2.imencode(".jpg", np.full((40, 60, 3), 90, np.uint8))
    message = CompressedImage(format="jpeg", data=data.tobytes() + bytes(1000))
    assert image_from_compressed_msg(message).pixels.shape == (40, 60, 3)


def test_data_that_are_no_image_are_refused_with_their_size():
    with pytest.raises(ImageError, match=r"cannot decode image data \(8 bytes\)"):
        image_from_compressed_msg(compressed_message(b"no image"))
