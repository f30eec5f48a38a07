# SPDX-License-Identifier: Apache-2.0
"""The launch files, run for real on the package as it is installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")
# Their submodules: this checkout's own folder launch/ would pass for a package of that name.
pytest.importorskip("launch.actions", reason="needs ros2/launch, which PyPI does not have")
pytest.importorskip("launch_ros.actions", reason="needs ros2/launch_ros, which PyPI does not have")

from graph import ROOT
from played_camera import PlayedCamera, names_in
from services import Services
from vision_msgs.msg import Detection2DArray
from waiting import wait_for

# What `ros2 launch FILE ARGUMENT:=VALUE …` does; ros2cli is one more thing that may be missing.
LAUNCH = """
import signal
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
arguments = [argument.split(":=", 1) for argument in sys.argv[2:]]
source = PythonLaunchDescriptionSource(sys.argv[1])
included = IncludeLaunchDescription(source, launch_arguments=arguments)
service = LaunchService(noninteractive=True)
service.include_launch_description(LaunchDescription([included]))
sys.exit(service.run())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The package installed as colcon does it; the folder that holds its bin, lib and share."""
    folder = tmp_path_factory.mktemp("installed")
    others = shutil.ignore_patterns(".*", "test", "build", "install", "log", "runs", "demo_out")
    shutil.copytree(ROOT, folder / "source", ignore=others)
    command = [sys.executable, "setup.py", "install", "--prefix", str(folder / "prefix")]
    command += ["--single-version-externally-managed", "--record", str(folder / "record.txt")]
    subprocess.run(command, cwd=folder / "source", check=True, capture_output=True)
    return folder / "prefix"


@pytest.fixture
def launch(graph, installed, tmp_path):
    """Runs one of the package's launch files with arguments."""
    modules = next(installed.rglob("ssd_ros-*.egg-info")).parent
    environment = dict(os.environ)
    for name, path in (("PYTHONPATH", modules), ("AMENT_PREFIX_PATH", installed)):
        environment[name] = os.pathsep.join(filter(None, (str(path), environment.get(name))))

    def start(file, **arguments):
        command = [sys.executable, "-c", LAUNCH, str(installed / "share/ssd_ros/launch" / file)]
        command += [f"{name}:={value}" for name, value in arguments.items()]
        return graph.start_command(command, cwd=tmp_path, env=environment)

    return start


def test_the_launch_file_starts_an_active_detector_with_the_given_parameters(
    graph, launch, weights, images
):
    launched = launch(
        "detector.launch.py",
        namespace=graph.namespace,
        weights=weights,
        device="cpu",
        image_topics="front/image_raw,rear/image_raw",
        classes="[cube, cone]",
        score_threshold="0.4",
        max_detections="5",
    )
    node = Services(graph)
    wait_for(lambda: node.state == "active", f"the node to be active; log: {launched.log}")
    assert node.get("image_topics") == ["front/image_raw", "rear/image_raw"]
    assert node.get("score_threshold") == 0.4
    assert node.get("nms_iou_threshold") == 0.45  # from the parameter file
    names = names_in(PlayedCamera(graph, "rear/image_raw").detect(images[0]))
    assert len(names) == 5
    assert set(names) <= {"cube", "cone"}


def test_a_parameter_file_of_ones_own_is_taken(graph, launch, weights, tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text(f"/**:\n  ros__parameters:\n    weights: {weights}\n    max_detections: 7\n")
    launched = launch("detector.launch.py", namespace=graph.namespace, params_file=file)
    node = Services(graph)
    wait_for(lambda: node.state == "active", f"the node to be active; log: {launched.log}")
    assert (node.get("max_detections"), node.get("weights")) == (7, weights)


def test_the_demo_launch_file_detects_in_a_folder_of_images(graph, launch, weights, image_folder):
    heard = graph.hear(Detection2DArray, "/detections")
    launched = launch("demo.launch.py", source=image_folder, weights=weights, rviz="false")
    wait_for(lambda: any(names_in(message) for message in heard), f"detections; {launched.log}")
