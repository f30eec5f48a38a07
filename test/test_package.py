# SPDX-License-Identifier: Apache-2.0
"""package.xml names what the installed package imports; rosdep installs it by these names."""

import ast
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import ssd_ros

ROOT = Path(__file__).parents[1]
NAMES = {  # where rosdep's name is not the module's
    "PIL": "python3-pil",
    "aiohttp": "python3-aiohttp",
    "cv2": "python3-opencv",
    "numpy": "python3-numpy",
    "tqdm": "python3-tqdm",
    "yaml": "python3-yaml",
}
NOT_FROM_ROSDEP = {
    "openvino": "of PyPI",
    "rosbags": "of PyPI; used if it is installed",
    "torch": "of PyPI; used if it is installed",
    "torchvision": "of PyPI; used if it is installed",
    "foxglove_msgs": "used if it is installed",
}


def imported() -> set[str]:
    """The modules of other packages that the installed files import, by their first name."""
    found = set()
    for file in [*ROOT.glob("ssd_ros/**/*.py"), *ROOT.glob("launch/*.py")]:
        for statement in ast.walk(ast.parse(file.read_text())):
            if isinstance(statement, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in statement.names}
            elif isinstance(statement, ast.ImportFrom):
                found.add((statement.module or "").partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"ssd_ros", "__future__"}


@pytest.fixture(scope="module")
def package() -> ElementTree.Element:
    return ElementTree.parse(ROOT / "package.xml").getroot()


def test_every_imported_package_is_declared(package):
    declared = {element.text for element in package.iter("exec_depend")}
    needed = {NAMES.get(name, name) for name in imported() - set(NOT_FROM_ROSDEP)}
    assert "rclpy" in needed
    assert needed <= declared


def test_what_messages_and_launch_files_need_is_declared(package):
    declared = {element.text for element in package.iter("exec_depend")}
    assert {"builtin_interfaces", "ros2launch"} <= declared


def test_the_version_is_that_of_the_package(package):
    assert package.findtext("version") == ssd_ros.__version__
