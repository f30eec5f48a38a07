# SPDX-License-Identifier: Apache-2.0
"""The doctor run as a command, in set-ups that are broken in different ways."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from graph import ROOT, node_command
from played_camera import PlayedCamera
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from services import Services
from waiting import wait_for

from ssd_ros.ros.frozen_graph import FrozenGraph

pytestmark = pytest.mark.slow  # test/doctor/ has what needs no processes
IMAGE = np.full((48, 64, 3), 90, np.uint8)
SECONDS = ("--seconds", "6")  # a busy machine may take some to be heard


def examine(*arguments, blocked=(), **environment):
    """Exit code and findings (level, what, fix) of the command, where some modules are missing."""
    start = [str(ROOT / "scripts" / "doctor")]  # as `ros2 run` does
    if blocked:
        code = (
            f"import sys; sys.modules.update(dict.fromkeys({list(blocked)!r}))\n"
            "from ssd_ros.doctor.__main__ import main; sys.exit(main())"
        )
        start = ["-c", code]
    environment.setdefault("PYTHONPATH", f"{ROOT}:{os.environ.get('PYTHONPATH', '')}")
    done = subprocess.run(
        [sys.executable, *start, "--weights", "demo", "--json", "-", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={name: value for name, value in {**os.environ, **environment}.items() if value},
        check=False,
    )
    assert "Traceback" not in done.stderr
    found = json.loads(done.stdout)
    findings = [f for section in found["sections"] for f in section["findings"]]
    return done.returncode, [(f["level"], f["what"], f["fix"]) for f in findings]


def told(findings, level, *parts):
    return any(
        found == level and all(part in f"{what} -> {fix}" for part in parts)
        for found, what, fix in findings
    )


def test_a_camera_that_works_is_told_with_rate_and_format(graph):
    camera = PlayedCamera(graph)
    camera.stream(IMAGE)
    code, findings = examine(*SECONDS)
    assert code == 0, findings
    assert told(
        findings, "OK", f"{camera.topic}: Image", "bgr8 64x48", "Hz: works with image_topics"
    )
    assert told(findings, "OK", "nodes in two processes of this machine find each other")
    assert told(findings, "OK", "Fast DDS profile")


def test_a_camera_that_ends_meanwhile_is_told_as_one_that_has_ended(
    graph, parameters, image_folder
):
    graph.start_detector(parameters)
    wait_for(lambda: Services(graph).state == "active", "the detector to be active")
    once = {"source": str(image_folder), "loop": False, "wait_for_subscribers": 2}
    source = graph.start_process("ssd_ros.ros.image_source_node", once)
    code, findings = examine(*SECONDS)  # the second subscriber
    assert source.exit_code() == 0
    topic = graph.name("image_raw")
    assert code == 1, findings
    assert told(findings, "WARN", f"{topic}: Image, its publisher has ended while this watched")
    assert told(findings, "FAIL", f"{graph.name('detector')}: {topic} has no publishers")
    assert not told(findings, "OK", topic)


def test_the_graph_stays_as_it_was_when_it_was_first_asked(graph):
    camera = PlayedCamera(graph)
    wait_for(lambda: graph.node.get_publishers_info_by_topic(camera.topic), "the camera")
    frozen = FrozenGraph(graph.node)
    assert len(frozen.get_publishers_info_by_topic(camera.topic)) == 1
    graph.node.destroy_publisher(camera.publisher)
    wait_for(lambda: not graph.node.get_publishers_info_by_topic(camera.topic), "its end")
    assert len(frozen.get_publishers_info_by_topic(camera.topic)) == 1


def test_each_broken_part_of_a_graph_is_named(graph, parameters, image_folder):
    forced = f"qos_overrides.{graph.name('forced')}.subscription.reliability"
    topics = ["typed", "forced", "absent"]
    given = {**parameters, "image_topics": topics, "use_sim_time": True, forced: "reliable"}
    graph.start_detector(given)
    # Another process: Fast DDS lets a participant have a topic with one type only.
    jpeg = node_command("ssd_ros.ros.image_source_node", {"source": str(image_folder)}, "/")
    jpeg += ["-p", "transport:=compressed", "-r", f"image_raw/compressed:={graph.name('typed')}"]
    graph.start_command(jpeg, cwd=ROOT)
    PlayedCamera(graph, "forced", reliability=ReliabilityPolicy.BEST_EFFORT).stream(IMAGE)
    second = {**parameters, "weights": "/no/such.safetensors"}
    graph.start_process("ssd_ros.ros.detector_node", second, graph.name("second"))
    twins = [Node("twin", namespace=graph.namespace) for _ in range(2)]
    wait_for(lambda: Services(graph).state == "active", "the detector to be active")
    graph.status("second/detector")
    try:
        asked = map(graph.name, ("absent", "forced", "typed"))
        code, findings = examine(*asked, "--weights", "/neither.pth", *SECONDS)
    finally:
        for node in twins:
            node.destroy_node()
    name = graph.name("detector")
    assert code == 1
    assert told(
        findings,
        "FAIL",
        f"{name}: {graph.name('typed')} of image_source: its type is",
        "_transport",
    )
    assert told(
        findings, "FAIL", f"{name}: {graph.name('forced')}", "QoS does not match", "qos_over"
    )
    assert told(
        findings, "FAIL", f"{name}: {graph.name('absent')} has no publishers", "image_topics:="
    )
    assert told(findings, "FAIL", f"{graph.name('absent')} has no publishers")
    assert told(findings, "WARN", f"{name} uses simulated time, but /clock has no publishers")
    assert told(findings, "WARN", f"2 nodes are named {graph.name('twin')}")
    assert told(findings, "OK", f"{graph.name('forced')}: Image, best effort", "works with")
    assert told(findings, "FAIL", f"{graph.name('typed')}: CompressedImage", "remap it")
    second = graph.name("second/detector")
    assert told(
        findings, "FAIL", f"{second} is unconfigured", "'/no/such.safetensors'", "weights FILE"
    )
    assert told(findings, "FAIL", "'/neither.pth'", "ssd_ros.weights list")


@pytest.mark.skipif(os.environ.get("ROS_DISTRO") == "humble", reason="has no such variable")
def test_nodes_that_do_not_find_each_other_are_named(rclpy_started):
    code, findings = examine("--seconds", "0.1", ROS_AUTOMATIC_DISCOVERY_RANGE="OFF")
    assert code == 1
    assert told(findings, "FAIL", "do not find each other", "unset ROS_AUTOMATIC_DISCOVERY_RANGE")


def test_a_missing_profile_and_a_missing_pytorch_are_named():
    off = {"FASTRTPS_DEFAULT_PROFILES_FILE": "", "FASTDDS_DEFAULT_PROFILES_FILE": ""}
    code, findings = examine("--seconds", "0", blocked=["torch"], **off)
    assert code == 0, findings
    assert told(findings, "WARN", "no Fast DDS profile is active", "config/fastdds.xml")
    assert told(findings, "OK", "PyTorch is not installed")


@pytest.fixture
def without_rclpy(tmp_path):
    """The path of a folder with an rclpy that cannot be imported, before all others."""
    (tmp_path / "rclpy.py").write_text("raise ModuleNotFoundError(\"No module named 'rclpy'\")\n")
    return f"{tmp_path}:{ROOT}"


def test_another_python_and_no_engine_are_named(without_rclpy, tmp_path):
    (tmp_path / "lib" / "python3.99" / "site-packages" / "rclpy").mkdir(parents=True)
    ros = {"PYTHONPATH": without_rclpy, "AMENT_PREFIX_PATH": str(tmp_path)}
    code, findings = examine(blocked=["torch", "openvino"], **ros)
    assert code == 1
    assert told(findings, "FAIL", "was built for Python 3.99", "python3.99 -m venv")
    assert told(findings, "FAIL", "no engine can run the network", "pip install openvino")


def test_without_ros_the_rest_is_told(without_rclpy):
    code, findings = examine(PYTHONPATH=without_rclpy, AMENT_PREFIX_PATH="")
    assert code == 0, findings
    assert told(findings, "WARN", "no ROS 2 here", "source /opt/ros/")
    assert told(findings, "OK", "'demo': 5 classes")


def test_a_missing_middleware_is_named():
    code, findings = examine(RMW_IMPLEMENTATION="rmw_none_cpp")
    assert code == 1
    assert told(findings, "FAIL", "rmw_none_cpp", "unset RMW_IMPLEMENTATION")


def test_an_argument_that_is_not_a_topic_name_is_named():
    code, findings = examine("camera/im age", "--seconds", "0.1")
    assert code == 1
    assert told(findings, "FAIL", "'camera/im age' is not a topic name", "ros2 topic list")


def test_a_domain_in_which_a_node_aborts_and_a_broken_profile_are_named():
    broken = {"ROS_DOMAIN_ID": "300", "FASTRTPS_DEFAULT_PROFILES_FILE": __file__}
    code, findings = examine("--seconds", "0.1", **broken)
    assert code == 1
    assert told(findings, "FAIL", "domain 300", "no such domain", "0 to 232")
    assert told(findings, "FAIL", "test_doctor.py' is not used: it is not XML")
    assert told(findings, "FAIL", "no ROS node can be made")


def test_a_second_node_that_ends_at_once_is_told_from_one_that_is_not_found(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'ssd_ros.ros.discovery_peer' in sys.orig_argv: os._exit(3)\n"
    )
    _, findings = examine(
        "--seconds", "0.1", PYTHONPATH=f"{tmp_path}:{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    )
    assert told(findings, "WARN", "second node: its process ended with exit code 3")
