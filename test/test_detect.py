# SPDX-License-Identifier: Apache-2.0
"""The command `python -m ssd_ros.detect`: files in, JSON, annotated images and lines out."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from ssd_ros.detect import main
from ssd_ros.detections import Thresholds
from ssd_ros.detector import Detector
from ssd_ros.image import Image
from ssd_ros.io import image_files

CPU = ("--device", "cpu")
THRESHOLD = 0.005  # low: the bundled weights give these images only low scores


def photograph(seed: int, width: int = 400, height: int = 260) -> np.ndarray:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector("demo", thresholds=Thresholds(score_threshold=THRESHOLD))


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        image_files.write(tmp_path / "in" / f"{i}.png", photograph(i))
    return tmp_path


def run(*arguments: str) -> int:
    return main([*arguments, "--weights", "demo", "--score-threshold", str(THRESHOLD), *CPU])


def test_the_command_writes_what_the_detector_finds(folder, detector, capsys):
    out, drawn = folder / "out.json", folder / "drawn"
    assert run(str(folder / "in"), "--json", str(out), "--draw", str(drawn)) == 0
    results = json.loads(out.read_text())
    assert [result["file"] for result in results] == [str(folder / f"in/{i}.png") for i in range(3)]
    assert sorted(path.name for path in drawn.iterdir()) == ["0.jpg", "1.jpg", "2.jpg"]
    for i, result in enumerate(results):
        expected = detector([Image(photograph(i))])[0]
        names = [detector.classes[k] for k in expected.labels]
        assert names
        assert [d["class"] for d in result["detections"]] == names
        boxes = [d["box"] for d in result["detections"]]
        np.testing.assert_allclose(boxes, expected.boxes, atol=0.01)
        assert (result["width"], result["height"]) == (400, 260)
    printed = capsys.readouterr()
    assert "detections in 3 images" in printed.err
    assert printed.out == ""


def test_json_goes_to_the_standard_output_for_a_dash(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert run(str(folder / "in"), "--json", "-") == 0
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)) == 3
    assert "wrote" not in printed.err
    assert [path.name for path in folder.iterdir()] == ["in"]


def test_without_json_each_detection_is_a_line_and_an_image_without_any_is_one_too(folder, capsys):
    files = [str(folder / "in" / f"{i}.png") for i in range(2)]
    assert run(*files) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [file for file in files if any(line.startswith(file) for line in lines)] == files
    assert all(len(line.split()) == 7 for line in lines)
    assert main([*files, "--weights", "demo", "--score-threshold", "1", *CPU]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{file}  no detections" for file in files]


def test_one_broken_image_does_not_cost_the_others(folder, capsys):
    (folder / "in" / "1.png").write_bytes(b"\x89PNG broken")
    assert run(str(folder / "in"), "--json", str(folder / "out.json")) == 1
    assert len(json.loads((folder / "out.json").read_text())) == 2
    printed = capsys.readouterr().err
    assert "1.png' is not an image" in printed
    assert "1 image could not be read" in printed


def test_a_video_is_detected_frame_by_frame_beside_image_files(folder, detector):
    video = str(folder / "video.avi")
    writer = cv2.VideoWriter(video, cv2.VideoWriter.fourcc(*"MJPG"), 10, (400, 260))
    for i in range(5):
        writer.write(photograph(i))
    writer.release()
    out, drawn = folder / "out.json", folder / "drawn"
    inputs = [str(folder / "in" / "0.png"), video]
    assert run(*inputs, "--json", str(out), "--draw", str(drawn), "--batch", "4") == 0
    results = json.loads(out.read_text())
    frames = [f"{video}#{i:06}" for i in range(5)]
    assert [result["file"] for result in results] == [inputs[0], *frames]
    images = sorted(path.name for path in drawn.iterdir())
    assert images == ["0.jpg", *(f"video_{i:06}.jpg" for i in range(5))]
    assert len({json.dumps(result["detections"]) for result in results[1:]}) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no such file or folder: 'nowhere'"),
        (["in", "--only", "dog"], "unknown class 'dog'"),
        (["in", "--score-threshold", "7"], "score_threshold must be from 0 to 1, got 7"),
        (["in", "--only", "cat,dog"], "unknown class 'dog'"),
        (["in", "--draw", "in/0.png"], "'in/0.png' is a file, expected a folder"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(folder, arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["--weights", "demo", *CPU, *arguments]) == 1
    assert message in capsys.readouterr().err


def test_annotated_images_do_not_replace_the_images_they_are_of(folder, capsys):
    before = {path: path.read_bytes() for path in sorted((folder / "in").iterdir())}
    assert run(str(folder / "in"), "--draw", str(folder / "in" / ".." / "in")) == 1
    assert "is in the folder for the annotated images" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in sorted((folder / "in").iterdir())} == before


def test_images_of_one_name_are_not_drawn_over_each_other(folder, capsys):
    image_files.write(folder / "other" / "0.png", photograph(5))
    inputs = [str(folder / "in"), str(folder / "other")]
    assert run(*inputs, "--draw", str(folder / "drawn")) == 1
    assert "would both be drawn to '0.jpg'" in capsys.readouterr().err
    assert not (folder / "drawn").exists()


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 130), (OSError("camera unplugged"), 1)]
)
def test_a_run_that_ends_early_keeps_what_is_done(folder, monkeypatch, capsys, error, status):
    out, drawn = folder / "out.json", folder / "drawn"
    original, calls = Detector.__call__, []

    def second_batch_fails(self, images):
        calls.append(len(images))
        if len(calls) == 2:
            raise error
        return original(self, images)

    monkeypatch.setattr(Detector, "__call__", second_batch_fails)
    arguments = [str(folder / "in"), "--json", str(out), "--draw", str(drawn), "--batch", "2"]
    assert run(*arguments) == status
    assert calls == [2, 1]
    results = json.loads(out.read_text())
    assert [result["file"] for result in results] == [str(folder / f"in/{i}.png") for i in range(2)]
    assert sorted(path.name for path in drawn.iterdir()) == ["0.jpg", "1.jpg"]
    printed = capsys.readouterr().err
    assert ("interrupted" if status == 130 else "error: camera unplugged") in printed
    assert " in 2 images, " in printed
    assert f"; wrote {out}; wrote {drawn}" in printed


@pytest.mark.parametrize("option", ["--json", "--draw"])
def test_an_output_that_cannot_be_written_is_an_error_before_the_work(
    folder, monkeypatch, capsys, option
):
    monkeypatch.setattr(Detector, "__call__", None)
    path = folder / "in" / "0.png" / "below_a_file"
    assert run(str(folder / "in"), option, str(path)) == 1
    assert f"'{path}'" in capsys.readouterr().err
    other = {"--json": "--draw", "--draw": "--json"}[option]
    assert run(str(folder / "in"), option, str(path), other, str(folder / "new")) == 1
    assert not (folder / "new").exists()


def test_a_file_name_need_not_be_utf_8(folder):
    name = os.fsdecode(b"caf\xe9.png")
    (folder / "in" / "0.png").rename(folder / "in" / name)
    out, drawn = folder / "out.json", folder / "drawn"
    assert run(str(folder / "in" / name), "--json", str(out), "--draw", str(drawn)) == 0
    (result,) = json.loads(out.read_text(encoding="utf-8"))
    assert os.fsencode(result["file"]) == os.fsencode(folder) + b"/in/caf\xe9.png"
    assert os.listdir(os.fsencode(drawn)) == [b"caf\xe9.jpg"]
    command = [sys.executable, "-m", "ssd_ros.detect", str(folder / "in" / name)]
    command += ["--weights", "demo"]
    printed = subprocess.run(command, capture_output=True, check=True).stdout
    assert printed.startswith(os.fsencode(folder / "in" / name) + b"  ")


def test_help_teaches_without_ros_or_weights():
    command = [sys.executable, "-m", "ssd_ros.detect", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "example: python -m ssd_ros.detect" in result.stdout
