# SPDX-License-Identifier: Apache-2.0
"""The demo: three processes, from pictures on disk to annotated pictures on disk."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")


def run_demo(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ssd_ros.demo", *map(str, arguments)]
    environment = os.environ | {"ROS_DOMAIN_ID": str(101 + os.getpid() % 100)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_demo_prints_detections_and_leaves_annotated_pictures(
    weights, picture_folder, tmp_path
):
    out = tmp_path / "out"
    result = run_demo(
        "--weights", weights, "--images", picture_folder, "--out", out, "--frames", 3,
        "--score-threshold", 0.3, "--timeout", 60,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "annotated pictures in" in result.stdout.splitlines()[-1]
    assert len(list(out.glob("frame_*.jpg"))) >= 3


def test_a_demo_without_detections_fails_and_shows_why(weights, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"")
    result = run_demo(
        "--weights", broken, "--images", tmp_path, "--out", tmp_path / "out", "--timeout", 20
    )
    assert result.returncode == 1
    assert "broken.safetensors': is empty" in result.stderr


def test_a_demo_without_its_files_says_what_is_missing(tmp_path):
    result = run_demo("--weights", "no.safetensors", "--images", tmp_path)
    assert result.returncode == 1
    assert "--weights: no such file or folder: 'no.safetensors'" in result.stderr
