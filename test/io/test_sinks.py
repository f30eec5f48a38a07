# SPDX-License-Identifier: Apache-2.0
"""Sinks: what they store, and that nothing is visible before the commit."""

import json
import os

import cv2
import numpy as np
import pytest

from ssd_ros.detections import Detections
from ssd_ros.image import Image
from ssd_ros.io.sinks import AnnotatedImages, JsonFile, TextLines
from ssd_ros.io.sources import Frame

CLASSES = ("cup", "cat")
IMAGE = Image(np.full((48, 64, 3), 90, np.uint8))
FOUND = Detections(
    np.array([[1, 2, 30, 40], [10.5, 4, 64, 48]], np.float32),
    np.array([0.75, 0.5], np.float32),
    np.array([1, 0]),
)
NOTHING = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, int))


def frame(name: str) -> Frame:
    return Frame(name, None, "", "", lambda: IMAGE)


def test_a_json_file_appears_at_the_commit_with_an_entry_for_each_frame(tmp_path):
    path = tmp_path / "new" / "out.json"
    sink = JsonFile(path, CLASSES)
    sink.write(frame("a/ä.png"), IMAGE, FOUND)
    sink.write(frame("b.png"), Image(IMAGE.pixels, "bgr", (640, 480)), NOTHING)
    assert os.listdir(tmp_path) == []
    sink.commit()
    sink.close()
    assert "ä" in path.read_text()
    assert json.loads(path.read_text()) == [
        {
            "file": "a/ä.png",
            "width": 64,
            "height": 48,
            "detections": [
                {"class": "cat", "score": 0.75, "box": [1, 2, 30, 40]},
                {"class": "cup", "score": 0.5, "box": [10.5, 4, 64, 48]},
            ],
        },
        {"file": "b.png", "width": 640, "height": 480, "detections": []},
    ]


def test_annotated_images_appear_at_the_commit_beside_what_was_there(tmp_path):
    folder = tmp_path / "new" / "drawn"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_text("old")
    (folder / "mine.txt").write_text("mine")
    sink = AnnotatedImages(folder, CLASSES)
    sink.write(frame("in/a.png"), IMAGE, FOUND)
    sink.write(frame("v.mp4#000012"), IMAGE, NOTHING)
    sink.write(frame("x#1.png"), IMAGE, NOTHING)
    visible = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    assert visible == ["a.jpg", "mine.txt"]
    assert (folder / "a.jpg").read_text() == "old"
    sink.commit()
    sink.close()
    images = ["a.jpg", "v_000012.jpg", "x#1.jpg"]
    assert sorted(os.listdir(folder)) == sorted([*images, "mine.txt"])
    assert (folder / "mine.txt").read_text() == "mine"
    drawn, empty, _ = (cv2.imread(str(folder / name)) for name in images)
    assert drawn.shape == empty.shape == (48, 64, 3)
    assert np.abs(empty.astype(int) - 90).max() <= 2
    assert np.abs(drawn.astype(int) - 90).max() > 50
    others_can_read = os.stat(folder / "mine.txt").st_mode & 0o777
    assert os.stat(folder / "a.jpg").st_mode & 0o777 == others_can_read


@pytest.mark.parametrize("existing", [False, True])
def test_annotated_images_without_a_commit_leave_the_folder_as_it_was(tmp_path, existing):
    if existing:
        (tmp_path / "drawn").mkdir()
    sink = AnnotatedImages(tmp_path / "drawn", CLASSES)
    sink.write(frame("a.png"), IMAGE, FOUND)
    sink.close()
    assert (tmp_path / "drawn").exists() == existing
    assert not existing or os.listdir(tmp_path / "drawn") == []


def test_two_frames_never_share_an_annotated_image(tmp_path):
    sink = AnnotatedImages(tmp_path / "drawn", CLASSES)
    assert sink.reserve(frame("a/0.png")) == sink.reserve(frame("a/0.png")) == "0.jpg"
    with pytest.raises(FileExistsError, match=r"'a/0\.png' and 'b/0\.bmp' would both .* '0\.jpg'"):
        sink.write(frame("b/0.bmp"), IMAGE, FOUND)
    sink.close()
    assert not (tmp_path / "drawn").exists()


def test_text_has_a_line_for_each_detection_and_one_for_none():
    lines: list[str] = []
    sink = TextLines(lines.append, CLASSES)
    sink.write(frame("a.png"), IMAGE, FOUND)
    sink.write(frame("b.png"), IMAGE, NOTHING)
    assert lines == [
        "a.png  cat             0.750     1.0    2.0   30.0   40.0",
        "a.png  cup             0.500    10.5    4.0   64.0   48.0",
        "b.png  no detections",
    ]
