# SPDX-License-Identifier: Apache-2.0
"""16-bit grey images of cameras that use fewer bits: in files, in messages, with fixed ranges."""

import array
import subprocess
import sys

import cv2
import numpy as np
import pytest
from made_images import made_image

from ssd_ros.bit_depth import RANGES, decode, to_8_bits
from ssd_ros.io import image_files
from ssd_ros.io.sources import open_files

GREY = cv2.cvtColor(made_image(0, 320, 240), cv2.COLOR_BGR2GRAY)


def seen_by(bits: int) -> np.ndarray:
    """The grey image as a sensor of so many bits sees it in a tenth of its range."""
    top = 2**bits
    return (top * 0.4 + GREY.astype(float) * top / 10 / 255).astype(np.uint16)


def stretched(grey: np.ndarray) -> np.ndarray:
    low, high = np.percentile(grey, (0.5, 99.5))
    return ((grey.astype(float) - low) * 255 / (high - low)).clip(0, 255)


@pytest.mark.parametrize("bits", [12, 14, 16])
def test_percentiles_show_what_is_there_whatever_the_bits(bits):
    scaled = to_8_bits(seen_by(bits))
    assert scaled.dtype == np.uint8
    assert np.abs(scaled - stretched(GREY)).max() <= (2 if bits > 12 else 3)


def test_a_hot_and_a_dead_pixel_do_not_matter():
    pixels = seen_by(14)
    expected = to_8_bits(pixels)
    pixels[0, :2] = (0, 65535)
    assert np.abs(to_8_bits(pixels).astype(int) - expected)[1:].max() <= 1


def test_differences_are_never_enlarged():
    noise = 3000 + np.random.default_rng(0).integers(0, 5, (240, 320)).astype(np.uint16)
    assert np.ptp(to_8_bits(noise)) <= 5
    assert np.ptp(to_8_bits(np.full((5, 5), 65535, np.uint16))) == 0


@pytest.mark.parametrize("value_range", [r for r in RANGES if r.endswith("bit")])
def test_a_fixed_range_is_the_same_for_every_image(value_range):
    top = 2 ** int(value_range[:2]) - 1
    pixels = np.array([[0, top // 2, top, 65535]], np.uint16)
    assert np.abs(to_8_bits(pixels, value_range).astype(int) - [[0, 127, 255, 255]]).max() <= 1


@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e36])
def test_floating_point_of_any_unit_is_scaled_by_what_is_there(unit):
    pixels = (GREY * unit - 40 * unit).astype(np.float32)
    assert np.abs(to_8_bits(pixels) - stretched(GREY)).max() <= 2
    pixels[0, :3] = (np.nan, np.inf, -np.inf)
    assert to_8_bits(pixels)[0, :3].tolist() == [0, 255, 0]


@pytest.mark.parametrize("value", [0.0, 7.5, np.nan, np.inf])
def test_floating_point_without_differences_is_dark(value):
    assert not to_8_bits(np.full((5, 5), value, np.float32)).any()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_files_of_16_bit_grey_are_scaled_as_messages_are(tmp_path, suffix):
    pixels = seen_by(12)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(cv2.imencode(suffix, pixels)[1])
    expected = np.repeat(to_8_bits(pixels)[..., None], 3, axis=2)
    np.testing.assert_array_equal(image_files.read(path), expected)
    (frame,) = open_files([path], "12bit")
    expected = np.repeat(to_8_bits(pixels, "12bit")[..., None], 3, axis=2)
    np.testing.assert_array_equal(frame.read().pixels, expected)


def test_other_files_are_read_as_before(tmp_path):
    colour = made_image(1, 30, 20)
    for pixels in (colour, colour[..., 0], np.dstack((colour, colour[..., 0]))):
        data = cv2.imencode(".png", pixels)[1].ravel()
        np.testing.assert_array_equal(decode(data), cv2.imdecode(data, cv2.IMREAD_COLOR))
    data = cv2.imencode(".png", colour.astype(np.uint16) * 256)[1].ravel()
    np.testing.assert_array_equal(decode(data), colour)  # 16-bit colour has its full range
    data = cv2.imencode(".tif", colour.astype(np.float32) / 255)[1].ravel()
    np.testing.assert_array_equal(decode(data), cv2.imdecode(data, cv2.IMREAD_COLOR))


@pytest.mark.parametrize(
    ("bits", "suffix"), [(10, ".png"), (12, ".png"), (12, ".tif"), (14, ".png")]
)
def test_16_bit_colour_of_fewer_bits_is_not_dark(tmp_path, bits, suffix):
    colour = made_image(1, 30, 20)
    colour[0, 0] = (250, 0, 255)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(cv2.imencode(suffix, colour.astype(np.uint16) * 2 ** (bits - 8))[1])
    assert np.abs(image_files.read(path).astype(int) - colour).max() <= 1


def test_messages_of_16_bit_grey_are_scaled_and_keep_their_size():
    pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")
    from sensor_msgs.msg import CompressedImage, Image

    from ssd_ros.messages.images import image_from_compressed_msg, image_from_msg

    pixels = seen_by(14)
    for kind, big_endian in (("<u2", 0), (">u2", 1)):
        rows = np.pad(pixels.astype(kind), ((0, 0), (0, 3)))  # padded rows
        data = array.array("B", rows.tobytes())
        message = Image(height=240, width=320, step=646, encoding="mono16", data=data)
        message.is_bigendian = big_endian
        image = image_from_msg(message)
        assert (image.width, image.height, image.order) == (320, 240, "mono")
        np.testing.assert_array_equal(image.pixels, to_8_bits(pixels))
        fixed = image_from_msg(message, "14bit").pixels
        np.testing.assert_array_equal(fixed, to_8_bits(pixels, "14bit"))
    data = array.array("B", cv2.imencode(".png", pixels)[1].tobytes())
    image = image_from_compressed_msg(CompressedImage(format="png", data=data), 100, "14bit")
    np.testing.assert_array_equal(image.pixels[..., 1], to_8_bits(pixels, "14bit"))


def test_detect_names_the_ranges():
    command = [sys.executable, "-m", "ssd_ros.detect", "x.png", "--mono16-range", "11bit"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "percentiles" in done.stderr
