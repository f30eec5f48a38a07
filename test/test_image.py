# SPDX-License-Identifier: Apache-2.0
"""Channel orders and sizes of an image."""

import itertools

import cv2
import numpy as np
import pytest

from ssd_ros.image import CHANNELS, Image


def pixels_in(order: str) -> np.ndarray:
    """The same grey ramp with coloured pixels in any order; mono has only the ramp."""
    values = {"r": 10, "g": 120, "b": 240, "a": 255}
    if order == "mono":
        return np.arange(24, dtype=np.uint8).reshape(4, 6)
    return np.tile(np.array([values[letter] for letter in order], np.uint8), (4, 6, 1))


@pytest.mark.parametrize(
    ("source", "target"), [(a, b) for a, b in itertools.permutations(CHANNELS, 2) if a != "mono"]
)
def test_an_image_can_be_had_in_every_other_order(source, target):
    image = Image(pixels_in(source), source, (60, 40))
    converted = image.to(target)
    assert (converted.order, converted.width, converted.height) == (target, 60, 40)
    if target == "mono":
        grey = 0.299 * 10 + 0.587 * 120 + 0.114 * 240
        assert np.abs(converted.pixels - grey).max() <= 1
    else:
        np.testing.assert_array_equal(converted.pixels, pixels_in(target))
    np.testing.assert_array_equal(
        image.resized(6, 4, target), converted.pixels.reshape(image.resized(6, 4, target).shape)
    )


@pytest.mark.parametrize("target", ["rgb", "bgr", "rgba", "bgra"])
def test_grey_images_get_equal_colours(target):
    converted = Image(pixels_in("mono"), "mono").to(target).pixels
    for channel in range(3):
        np.testing.assert_array_equal(converted[..., channel], pixels_in("mono"))


def test_the_same_order_is_the_same_image():
    image = Image(pixels_in("rgb"), "rgb")
    assert image.to("rgb") is image


@pytest.mark.parametrize("order", ["bgr", "rgb"])
@pytest.mark.parametrize("size", [(6, 4), (3, 2), (12, 9)])
def test_resized_is_always_a_copy_and_can_be_written_in_place(order, size):
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    image = Image(pixels, "bgr")
    resized = image.resized(width, height, order)
    expected = cv2.resize(pixels, size)[..., :: 1 if order == "bgr" else -1]
    np.testing.assert_array_equal(resized, expected)
    assert not np.shares_memory(resized, pixels)
    batch = np.zeros((2, height, width, 3), np.uint8)
    image.resized(width, height, order, out=batch[1])
    np.testing.assert_array_equal(batch[1], expected)
    assert not batch[0].any()
