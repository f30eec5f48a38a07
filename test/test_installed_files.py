# SPDX-License-Identifier: Apache-2.0
"""The files that both installations have: colcon's by setup.py, the pip environment's by links."""

import os
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def install(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "pip_ros"))
    import install

    yield install
    for name in ("install", "machine", "steps"):
        sys.modules.pop(name, None)


def test_the_pip_environment_has_the_files_that_setup_py_installs(install, monkeypatch):
    setuptools = pytest.importorskip("setuptools")
    given = {}
    monkeypatch.setattr(setuptools, "setup", given.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    places = {
        f"{folder}/{Path(file).name}": file
        for folder, files in given["data_files"]
        for file in files
        if not folder.startswith("share/ament_index")
    }
    assert install.installed_files() == places
    assert {"lib/ssd_ros/detector", "share/ssd_ros/launch/detector.launch.py"} <= set(places)


def test_the_links_are_found_by_what_follows_no_linked_folders(install, tmp_path):
    for place, file in install.installed_files().items():
        install.link(tmp_path / place, ROOT / file)
    share = tmp_path / "share" / "ssd_ros"
    found = {name for _, _, files in os.walk(share) for name in files}  # as ros2 launch does
    assert {"detector.launch.py", "demo.launch.py", "package.xml", "fastdds.xml"} <= found
    for script in (tmp_path / "lib" / "ssd_ros").iterdir():
        assert os.access(script, os.X_OK)
