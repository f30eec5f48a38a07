# SPDX-License-Identifier: Apache-2.0
"""Class names in the annotated image: other alphabets, and what is no text."""

import cv2
import numpy as np
import pytest

from ssd_ros import drawing
from ssd_ros.detections import Detections
from ssd_ros.drawing import annotate, drawable
from ssd_ros.image import Image

FOUND = Detections(
    np.array([[20, 60, 200, 150]], np.float32), np.array([0.9], np.float32), np.array([0])
)


def drawn(name: str) -> np.ndarray:
    return annotate(Image(np.zeros((240, 640, 3), np.uint8)), FOUND, [name])


@pytest.mark.parametrize(
    ("name", "in_ascii"),
    [
        ("cup", "cup"),
        ("Tüte", "Tute"),
        ("Straße", "Strasse"),
        ("Smørrebrød", "Smorrebrod"),
        ("Cafe\u0301", "Cafe"),
        ("№ 5", "No 5"),
        ("猫", "\\u732b"),
        ("é猫", "e\\u732b"),
        ("кот", "\\u043a\\u043e\\u0442"),
        ("\U0001f600", "\\U0001f600"),
    ],
)
def test_without_a_unicode_font_names_are_written_in_ascii(name, in_ascii):
    assert drawable(name, unicode_font=False) == in_ascii
    assert drawable(name, unicode_font=True) == name


def test_different_names_stay_different_without_a_unicode_font(monkeypatch):
    monkeypatch.setattr(drawing, "drawable", lambda text: drawable(text, unicode_font=False))
    assert not np.array_equal(drawn("猫"), drawn("犬"))
    assert np.array_equal(drawn("猫"), drawn("\\u732b"))


@pytest.mark.skipif(not hasattr(cv2, "FontFace"), reason="needs OpenCV 5's font")
def test_opencv_5_draws_the_names_themselves():
    assert not np.array_equal(drawn("猫"), drawn("\\u732b"))
    assert not np.array_equal(drawn("猫"), drawn("犬"))


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "\x1b[31mred", "\ud800", "\u202eabc"])
def test_what_is_no_text_is_drawn_as_its_escape_sequence(name):
    escaped = name.encode("unicode_escape").decode()
    assert np.array_equal(drawn(name), drawn(escaped))
    assert drawable(name, unicode_font=False) == escaped
