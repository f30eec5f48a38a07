# SPDX-License-Identifier: Apache-2.0
"""Data sets composed of cut-outs: every box is right, and every image can be made again."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.compose import main
from training.composition.compose import CutOut, compose
from training.data import samples, voc
from training.data.voc_check import check

SIZE = (200, 150)


def disc(colour, side=60):
    pixels = np.zeros((side, side, 4), np.uint8)
    cv2.circle(pixels, (side // 2, side // 2), side // 2 - 1, (*colour, 255), -1)
    return pixels


RED = [CutOut("red", disc((0, 0, 255)))]
GREY = [np.full((90, 120, 3), 120, np.uint8)]


def test_a_box_encloses_what_is_seen_of_its_object():
    """A red disc on black, which no tint makes red: where red dominates is the box."""
    black = [np.zeros((90, 120, 3), np.uint8)]
    checked = 0
    for seed in range(60):
        image, objects = compose(np.random.default_rng(seed), RED, black, SIZE, most_objects=1)
        if len(objects) != 1:
            assert not objects
            continue
        blurred = cv2.GaussianBlur(image, (0, 0), 2).astype(int)
        red = blurred[..., 2] - blurred[..., :2].max(axis=2) > 45
        if red.sum() < 200:  # too dark a light to tell
            continue
        x, y, w, h = cv2.boundingRect(red.astype(np.uint8))
        assert np.abs(np.array(objects[0].box) - (x, y, x + w, y + h)).max() <= 8
        checked += 1
    assert checked > 20


def test_objects_stay_recognisable_and_inside_the_image():
    two = RED + [CutOut("blue", disc((255, 0, 0)))]
    names = set()
    for seed in range(60):
        image, objects = compose(np.random.default_rng(seed), two, GREY, SIZE)
        assert image.shape == (150, 200, 3)
        assert len(objects) <= 4
        for item in objects:
            x1, y1, x2, y2 = item.box
            assert 0 <= x1 < x2 <= 200
            assert 0 <= y1 < y2 <= 150
            assert 0.45 <= item.seen <= 1
            names.add(item.name)
    assert names == {"red", "blue"}


def test_the_same_state_gives_the_same_image():
    a, b = (compose(np.random.default_rng(4), RED, GREY, SIZE) for _ in range(2))
    assert np.array_equal(a[0], b[0])
    assert a[1] == b[1]


@pytest.fixture
def own(tmp_path) -> Path:
    """Cut-outs and backgrounds of a user."""
    (tmp_path / "cutouts").mkdir()
    (tmp_path / "backgrounds").mkdir()
    for name in ("red mug.png", "red mug_2.png", "bolt1.png"):
        cv2.imwrite(str(tmp_path / "cutouts" / name), disc((0, 0, 255)))
    cv2.imwrite(str(tmp_path / "backgrounds" / "desk.png"), GREY[0])
    return tmp_path


def make(own, out, *more):
    arguments = ["--images", "6", "--held-out", "3", "--size", "160x120", "--workers", "1"]
    folders = ["--cutouts", str(own / "cutouts"), "--backgrounds", str(own / "backgrounds")]
    return main([str(out), *arguments, *folders, *more])


def test_a_user_s_cutouts_become_a_sound_voc_data_set(own):
    assert make(own, own / "set") == 0
    report = check(own / "set", ["red mug", "bolt"])
    assert report.images == 9
    assert report.defects == []
    trainval, classes = samples.load(voc.find_images(own / "set", "trainval"))
    assert len(trainval) == 6
    assert classes == ("bolt", "red mug")


def test_the_seed_decides_and_held_out_images_are_others(own):
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert make(own, own / name, "--seed", seed) == 0

    def images(name, image_set="trainval"):
        return [p.read_bytes() for p in sorted((own / name / "JPEGImages").glob(f"{image_set}_*"))]

    assert images("a") == images("b")
    assert set(images("a")).isdisjoint(images("c"))
    assert set(images("a")).isdisjoint(images("a", "test"))


def test_a_cutout_without_transparency_is_refused_by_name(own, capsys):
    cv2.imwrite(str(own / "cutouts" / "flat.png"), GREY[0])
    assert make(own, own / "set") == 1
    assert "flat.png' must be an 8-bit PNG with an alpha channel" in capsys.readouterr().err
