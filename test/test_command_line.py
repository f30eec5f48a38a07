# SPDX-License-Identifier: Apache-2.0
"""Commands end without a traceback where they are not to blame."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ssd_ros
from ssd_ros.command_line import plural

ROOT = Path(ssd_ros.__file__).parents[1]


def start(arguments, modules=""):
    """A module's command, or that of a file in scripts/ as `ros2 run` starts it."""
    path = os.pathsep.join((str(modules), str(ROOT), os.environ.get("PYTHONPATH", "")))
    is_script = Path(arguments[0]).is_absolute()
    return subprocess.Popen(
        [sys.executable, *([] if is_script else ["-m"]), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_one_is_singular():
    assert [plural(count, "image") for count in (0, 1, 2)] == ["0 images", "1 image", "2 images"]


@pytest.mark.parametrize(
    ("command", "module", "files"),
    [
        ("training.train", "torch", "-r requirements.txt -r requirements-training.txt"),
        ("training.report", "jinja2", "-r requirements.txt -r requirements-training.txt"),
        ("ssd_ros.detect", "tqdm", "-r requirements.txt"),
    ],
)
def test_a_missing_module_is_named_with_what_to_install(tmp_path, command, module, files):
    missing = f"raise ModuleNotFoundError('not installed', name='{module}')\n"
    (tmp_path / f"{module}.py").write_text(missing)
    process = start([command, "--help"], tmp_path)
    _, error = process.communicate()
    assert process.returncode == 1
    assert error == f"error: the module '{module}' is missing: pip install {files}\n"


def test_ctrl_c_gives_no_traceback_even_at_the_start(tmp_path):
    (tmp_path / "tqdm.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    process = start(["ssd_ros.detect", "--help"], tmp_path)
    _, error = process.communicate()
    assert (process.returncode, error) == (-signal.SIGINT, "interrupted\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["ssd_ros.detect", ROOT / "docs" / "detections.jpg", "--weights", "demo"],
        ["ssd_ros.detect", ROOT / "docs" / "detections.jpg", "--weights", "demo", "--json", "-"],
        ["ssd_ros.weights", "info", "demo"],
        *([ROOT / "scripts" / node, "--help"] for node in ("detector", "image_source")),
        [ROOT / "scripts" / "doctor", "--seconds", "0"],
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_enough_is_no_error(monkeypatch, arguments, unbuffered):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    process = start(arguments)
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait() == -signal.SIGPIPE
    assert "Broken pipe" not in error
    assert "Traceback" not in error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is full")
def test_a_full_disk_behind_the_standard_output_is_an_error_of_one_line():
    with Path("/dev/full").open("wb") as full:
        run = subprocess.run(
            [sys.executable, "-m", "ssd_ros.weights", "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert run.returncode != 0
    assert run.stderr.startswith("error: [Errno 28]")
    assert "Traceback" not in run.stderr
