# SPDX-License-Identifier: Apache-2.0
"""Sources: which frames they give, in which order, and what a broken one costs."""

import itertools
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssd_ros.image import ImageError
from ssd_ros.io import image_files
from ssd_ros.io.sources import ImageFiles, Video, open_files, open_source

GREYS = [20, 90, 160, 230]


def plain(grey: int) -> np.ndarray:
    return np.full((48, 64, 3), grey, np.uint8)


def make_video(path: Path) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for grey in GREYS:
        writer.write(plain(grey))
    writer.release()
    return path


def shades(frames) -> list[int]:
    return [round(frame.read().pixels.mean()) for frame in frames]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, grey in (("b.png", 90), ("a.png", 20), ("c.bmp", 160)):
        image_files.write(tmp_path / "images" / name, plain(grey))
    (tmp_path / "images" / "notes.txt").write_text("no image")
    return tmp_path / "images"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return make_video(tmp_path / "video.avi")


def test_a_folder_gives_its_images_by_name_and_files_come_as_given(folder):
    files = [folder / name for name in ("a.png", "b.png", "c.bmp")]
    source = ImageFiles([folder])
    assert [frame.name for frame in source] == [str(file) for file in files]
    assert shades(source) == [20, 90, 160]
    assert len(source) == 3
    assert shades(ImageFiles([files[2], files[0]])) == [160, 20]
    assert all((f.stamp_ns, f.frame_id, f.topic) == (None, "", "") for f in source)


def test_images_are_read_late_so_that_a_broken_one_costs_only_itself(folder):
    (folder / "b.png").write_bytes(b"no image")
    first, broken, last = ImageFiles([folder])
    with pytest.raises(ImageError, match=r"b\.png' is not an image \(8 bytes\)"):
        broken.read()
    assert shades([first, last]) == [20, 160]
    (folder / "c.bmp").unlink()
    with pytest.raises(ImageError, match=r"c\.bmp': No such file"):
        last.read()


@pytest.mark.parametrize("open_", [open_source, Video, lambda path: open_files([path])])
def test_a_video_gives_its_frames_in_order_each_time(video, open_):
    source = open_(str(video))
    for _ in range(2):
        greys = {frame.name: frame.read().pixels.mean() for frame in source}
        assert list(greys) == [f"{video}#{i:06}" for i in range(4)]
        np.testing.assert_allclose(list(greys.values()), GREYS, atol=3)


def test_a_frame_of_a_video_is_refused_after_the_next_one_was_taken(video):
    frames = iter(Video(video))
    first, second = next(frames), next(frames)
    with pytest.raises(ImageError, match="#000000' must be read before the next frame"):
        first.read()
    assert abs(shades([second])[0] - GREYS[1]) <= 3


def test_a_video_that_cannot_be_opened_safely_is_refused(video, tmp_path):
    renamed = video.rename(tmp_path / os.fsdecode(b"caf\xe9.avi"))
    with pytest.raises(OSError, match="its name is not UTF-8"):
        Video(renamed)
    os.mkfifo(tmp_path / "pipe.avi")
    with pytest.raises(OSError, match=r"pipe\.avi': not a regular file"):
        Video(tmp_path / "pipe.avi")


def test_a_loop_restarts_files_and_videos(folder, video):
    looped = itertools.islice(open_source(str(folder), loop=True), 7)
    assert shades(looped) == [20, 90, 160, 20, 90, 160, 20]
    looped = itertools.islice(open_source(str(video), loop=True), 9)
    np.testing.assert_allclose(shades(looped), [*GREYS, *GREYS, GREYS[0]], atol=3)


def test_files_folders_and_videos_follow_each_other_as_given(folder, video):
    source = open_files([video, folder / "c.bmp", folder, video])
    expected = [*GREYS, 160, 20, 90, 160, *GREYS]
    np.testing.assert_allclose(shades(source), expected, atol=3)


def test_image_files_alone_have_a_known_number(folder):
    source = open_files([folder, str(folder / "a.png")])
    assert isinstance(source, ImageFiles)
    assert len(source) == 4


@pytest.mark.parametrize(
    ("open_", "path", "message"),
    [
        (open_source, "{}/none.png", "no such file or folder: '{}/none.png'"),
        (open_source, "{}/none.mp4", "no such video: '{}/none.mp4'"),
        (open_source, "{}", "folder '{}' holds no images"),
        (open_source, "{}/notes.txt", "cannot open source '{}/notes.txt': not an image folder, "),
        (open_source, "{}/none", "cannot open source '{}/none': not an image folder, video, "),
        (lambda path: open_files([path]), "{}/none", "no such file or folder: '{}/none'"),
        (lambda path: open_files([path]), "{}/none.mp4", "no such video: '{}/none.mp4'"),
    ],
)
def test_a_source_that_cannot_be_opened_is_an_error_at_once(tmp_path, open_, path, message):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(OSError, match=message.format(tmp_path)):
        open_(path.format(tmp_path))
