# SPDX-License-Identifier: Apache-2.0
"""The demo: three processes, from images on disk to annotated images on disk."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")
pytest.importorskip("skimage", reason="needs requirements-training.txt")

from demo import __main__ as demo
from demo import camera as demo_camera
from demo.accuracy import LabelledBox, count_matches, summary

HANGS = 300  # seconds until a demo that hangs fails the test
pytestmark = pytest.mark.training


def run_demo(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demo", *map(str, arguments)]
    environment = os.environ | {"ROS_DOMAIN_ID": str(1 + (os.getpid() + 50) % 100)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_demo_leaves_annotated_images_and_ends_with_precision_and_recall(tmp_path):
    camera, out = tmp_path / "camera", tmp_path / "out"
    assert demo_camera.main([str(camera), "--scenes", "2", "--frames", "3"]) == 0
    result = run_demo(
        "--images", camera / "frames", "--truth", camera / "truth.json", "--out", out,
        "--rate", 2, "--timeout", HANGS,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    precision, recall, frames = re.search(
        r"precision ([\d.]+), recall ([\d.]+) .* in (\d+) of 6 frames", result.stdout
    ).groups()
    assert float(precision) > 0.7
    assert float(recall) > 0.5
    assert int(frames) >= 1  # a slow machine drops some
    drawn = re.search(r"(\d+) annotated images in", result.stdout.splitlines()[-1])
    log = (out / "detector.log").read_text()
    address = re.search(r"http://127.0.0.1:(\d+)/", result.stdout)
    assert not address or f"web page: {address[0]}" in log  # it listens when it is told
    assert bool(address) == bool(importlib.util.find_spec("aiohttp"))
    assert int(drawn[1]) == len(list(out.glob("frame_*.jpg"))) >= 1


CUP, CUP_BESIDE, FAR = (0, 0, 10, 10), (1, 0, 11, 10), (50, 50, 60, 60)


@pytest.mark.parametrize(
    ("detections", "ground_truth", "counts"),
    [
        ([LabelledBox("cup", CUP_BESIDE)], [LabelledBox("cup", CUP)], (1, 1, 1)),
        (
            [LabelledBox("cup", CUP), LabelledBox("cup", CUP_BESIDE)],
            [LabelledBox("cup", CUP)],
            (1, 2, 1),
        ),
        ([LabelledBox("cat", CUP)], [LabelledBox("cup", CUP)], (0, 1, 1)),
        ([LabelledBox("cup", FAR)], [LabelledBox("cup", CUP)], (0, 1, 1)),
        ([LabelledBox("cup", CUP)], [LabelledBox("cup", CUP, difficult=True)], (0, 0, 0)),
        ([], [LabelledBox("cup", CUP), LabelledBox("cat", FAR)], (0, 0, 2)),
        ([LabelledBox("cup", CUP)], [], (0, 1, 0)),
    ],
)
def test_a_detection_agrees_with_one_object_of_its_class_that_it_overlaps(
    detections, ground_truth, counts
):
    assert count_matches([(detections, ground_truth)]) == counts


def test_the_summary_tells_how_many_difficult_objects_are_not_counted():
    hidden = LabelledBox("cup", FAR, difficult=True)
    frames = [([LabelledBox("cup", CUP)], [LabelledBox("cup", CUP), hidden]), ([], [hidden])]
    text = "precision 1.00, recall 1.00 on 1 object in 2 of 3 frames (IoU 0.5"
    assert summary(frames, 3) == f"{text}; 2 difficult objects not counted)"
    assert (
        summary(frames[:0], 3)
        == "precision 0.00, recall 0.00 on 0 objects in 0 of 3 frames (IoU 0.5)"
    )


def test_a_demo_without_detections_fails_and_shows_why(weights, image_folder, tmp_path):
    result = run_demo(
        "--weights", weights, "--images", image_folder, "--out", tmp_path / "out",
        "--score-threshold", 2, "--timeout", HANGS,
    )  # fmt: skip
    assert result.returncode == 1
    assert "no detections" in result.stderr
    assert "score_threshold" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "no.safetensors", "--images", "{folder}"], "no.safetensors"),
        (["--images", "nowhere"], "'nowhere'"),
        (["--images", "{folder}", "--truth", "no.json"], "no.json"),
    ],
)
def test_a_demo_without_its_files_names_what_is_missing(arguments, message, image_folder, capsys):
    assert demo.main([text.format(folder=image_folder) for text in arguments]) == 1
    assert message in capsys.readouterr().err
