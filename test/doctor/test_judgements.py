# SPDX-License-Identifier: Apache-2.0
"""The doctor's judgements, from facts that are made: each broken set-up is named, with a fix."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ssd_ros.doctor import engines, graph, libraries, python_environment, ros_environment
from ssd_ros.doctor.engines import EngineFacts
from ssd_ros.doctor.finding import FAIL, OK, WARN, Finding, Section, as_json, as_text, worst
from ssd_ros.doctor.importing import try_import
from ssd_ros.doctor.libraries import LibraryFacts
from ssd_ros.doctor.python_environment import PythonFacts
from ssd_ros.doctor.ros_environment import RosFacts
from ssd_ros.ros.graph_snapshot import Connection, GraphSnapshot, ImageTopic, RunningDetector

ROOT = Path(__file__).parents[2]
VENV = "/home/me/ws/venv"
PYTHON = PythonFacts(
    (3, 12), f"{VENV}/bin/python3", VENV, "/usr", VENV, "jazzy", {(3, 12): "/opt/ros/jazzy"}, ""
)
NO_RCLPY = "ModuleNotFoundError: No module named 'rclpy'"
LIBRARIES = LibraryFacts(
    {"numpy": "2.1.0", "cv2": "4.11.0", "PIL": "12.0"},
    {},
    ["opencv-python-headless"],
    {"rosbags-image": "", "cv_bridge": None},
)
ENGINES = EngineFacts(
    "2026.1", "", ["CPU (EPYC)"], ("fp32", "int8"), choice="openvino", reason="no CUDA device here"
)
BOTH = replace(ENGINES, torch="2.14.0", cuda_version="13.0", has_driver=True)
ROS = RosFacts({}, "rmw_fastrtps_cpp", True, "/p.xml", "", "", 8000, "", ())
CAMERA = ImageTopic(
    "/camera/image_raw",
    "sensor_msgs/msg/Image",
    [Connection("driver")],
    "reliable, volatile",
    100,
    29.97,
    "bgr8 640x480",
)
DETECTOR = RunningDetector(
    "/detector",
    "active",
    {"weights": "coco", "use_sim_time": False},
    [(0, "/detector", "active"), (0, "/detector: /camera/image_raw", "100 images processed")],
    {"/camera/image_raw": [Connection("driver")]},
)
GRAPH = GraphSnapshot(
    5.0, ["/detector", "/driver"], [CAMERA.name], topics=[CAMERA], detectors=[DETECTOR]
)


def told(findings: list[Finding], level: str, what: str, fix: str = "") -> bool:
    return any(
        finding.level == level and what in finding.what and fix in finding.fix
        for finding in findings
    )


def judged(snapshot: GraphSnapshot, multicast: str = "", **environment: str) -> list[Finding]:
    sections = graph.judge(snapshot, environment, multicast)
    return [finding for section in sections for finding in section.findings]


def test_a_sound_set_up_is_ok_and_says_how_to_start():
    findings = [
        *python_environment.judge(PYTHON),
        *libraries.judge(LIBRARIES),
        *engines.judge(ENGINES),
        *ros_environment.judge(ROS),
        *judged(GRAPH),
    ]
    assert {finding.level for finding in findings} == {OK}
    assert not any(finding.fix for finding in findings)
    assert told(findings, OK, "backend auto chooses openvino: no CUDA device here")
    assert told(findings, OK, "bgr8 640x480, 30.0 Hz: works with image_topics:=/camera/image_raw")


@pytest.mark.parametrize(
    ("changed", "level", "what", "fix"),
    [
        (
            {"version": (3, 11), "rclpy_error": NO_RCLPY},
            FAIL,
            "ROS in /opt/ros/jazzy was built for Python 3.12, this is Python 3.11",
            "python3.12 -m venv --system-site-packages",
        ),
        (
            {"rclpy_error": "ImportError: librcl.so: no such file"},
            FAIL,
            "rclpy of /opt/ros/jazzy cannot be imported: ImportError: librcl.so",
            "source /opt/ros/$ROS_DISTRO/setup.bash",
        ),
        (
            {"rclpy_error": NO_RCLPY, "ros": {}, "installed": ["/opt/ros/jazzy/setup.bash"]},
            WARN,
            "no ROS 2 here",
            "source /opt/ros/jazzy/setup.bash",
        ),
        (
            {"rclpy_error": "[rcl]: Expected RMW implementation identifier of 'rmw_x'"},
            FAIL,
            "RMW_IMPLEMENTATION does not load",
            "unset RMW_IMPLEMENTATION",
        ),
        ({"active": "/other"}, WARN, "environment /other is active, but this Python is", "/other"),
        ({"prefix": "/conda", "base_prefix": "/conda", "active": "/conda"}, OK, "/conda is a", ""),
        ({"version": (3, 9), "ros": {(3, 9): "/opt/ros/x"}}, FAIL, "too old", "3.10 to 3.13"),
        ({"version": (3, 14)}, WARN, "newer than 3.13", "3.13"),
        ({"prefix": "/usr", "active": ""}, OK, "no virtual environment is active", ""),
    ],
)
def test_a_python_that_does_not_fit_is_named(changed, level, what, fix):
    assert told(python_environment.judge(replace(PYTHON, **changed)), level, what, fix)


@pytest.mark.parametrize(
    ("changed", "level", "what", "fix"),
    [
        (
            {"versions": {}, "errors": {"cv2": "ImportError: numpy.core.multiarray failed"}},
            FAIL,
            "cv2 does not load",
            "another NumPy: pip install --upgrade opencv-python-headless",
        ),
        ({"errors": {"PIL": "No module named 'PIL'"}}, FAIL, "PIL does not", "pip install pillow"),
        ({"opencv": ["opencv-python", "opencv-python-headless"]}, WARN, "overwrite", "uninstall"),
        (
            {"converters": {"rosbags-image": None, "cv_bridge": "the import crashed (signal 11)"}},
            WARN,
            "cannot be converted: cv_bridge: the import crashed",
            "pip install rosbags-image",
        ),
        (
            {"converters": {"rosbags-image": "", "cv_bridge": "_ARRAY_API not found"}},
            OK,
            "converted by rosbags-image (cv_bridge: _ARRAY_API not found: it is not needed)",
            "",
        ),
    ],
)
def test_libraries_that_do_not_fit_are_named(changed, level, what, fix):
    assert told(libraries.judge(replace(LIBRARIES, **changed)), level, what, fix)


def test_a_library_is_tried_in_another_process(tmp_path, monkeypatch):
    (tmp_path / "crashing.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    assert try_import("crashing") == (False, "the import crashed (signal 11)")
    assert try_import("no_such_module")[1].endswith("No module named 'no_such_module'")
    assert try_import("json") == (True, "2.0.9")


@pytest.mark.parametrize(
    ("facts", "level", "what", "fix"),
    [
        (EngineFacts(), FAIL, "no engine can run the network", "pip install openvino"),
        (EngineFacts(), FAIL, "OpenVINO is not installed", "virtual environment that is active"),
        (ENGINES, OK, "PyTorch is not installed (an NVIDIA GPU and training need it)", ""),
        (replace(ENGINES, has_driver=True), WARN, "the GPU is not used", "pip install torch"),
        (replace(BOTH, cuda_version=""), WARN, "was built without CUDA", "nvidia-smi"),
        (BOTH, WARN, "(CUDA 13.0) sees no device", "--gpus all"),
        (
            replace(BOTH, cuda=["cuda:0 H100"], choice="pytorch", reason="a CUDA device"),
            OK,
            "backend auto chooses pytorch: a CUDA device",
            "",
        ),
        (replace(ENGINES, openvino_error="ImportError: GLIBC"), FAIL, "does not load", "reinstall"),
        (
            replace(BOTH, torch_error="OSError: libcudart.so", choice=""),
            FAIL,
            "auto chooses pytorch, which does not load",
            "backend:=openvino",
        ),
        (
            EngineFacts(torch="2.14.0", choice="pytorch", reason="OpenVINO is not installed"),
            WARN,
            "OpenVINO is not installed",
            "pip install openvino",
        ),
    ],
)
def test_engines_that_are_missing_or_broken_are_named(facts, level, what, fix):
    assert told(engines.judge(facts), level, what, fix)


def test_an_only_engine_that_ends_the_process_is_named(monkeypatch, tmp_path):
    (tmp_path / "torch.py").write_text("import os; os.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(engines, "_version", {"torch": "2.14.0", "openvino": ""}.get)
    findings = engines.judge(engines.probe())
    assert told(findings, WARN, "PyTorch 2.14.0 does not load: the import crashed (signal 6)")
    assert told(findings, FAIL, "no engine can run the network")


@pytest.mark.parametrize(
    ("changed", "level", "what", "fix"),
    [
        (
            {"profile": "", "suggestion": "start with FILE"},
            WARN,
            "no Fast DDS profile",
            "with FILE",
        ),
        ({"profile_error": "No such file"}, FAIL, "'/p.xml' is not used: No such", "PROFILES_FILE"),
        ({"memory": "/dev/shm has 64 MiB"}, WARN, "too small", "/dev/shm has 64 MiB"),
        (
            {"missing": ["vision_msgs"]},
            FAIL,
            "vision_msgs is missing",
            "ros-$ROS_DISTRO-vision-msgs",
        ),
        ({"environment": {"ROS_DOMAIN_ID": "300"}}, FAIL, "domain 300: no such", "0 to 232"),
        (
            {"environment": {"ROS_LOCALHOST_ONLY": "1"}, "uses_fast_dds": False, "profile": ""},
            OK,
            "ROS_LOCALHOST_ONLY=1",
            "",
        ),
    ],
)
def test_an_environment_that_does_not_fit_is_named(changed, level, what, fix):
    assert told(ros_environment.judge(replace(ROS, **changed)), level, what, fix)


@pytest.mark.parametrize(
    ("changed", "level", "what", "fix"),
    [
        ({"state": ""}, WARN, "/detector does not answer", "log"),
        (
            {
                "state": "unconfigured",
                "statuses": [(2, "/detector", "cannot read weights file 'x'")],
            },
            FAIL,
            "/detector is unconfigured, weights coco: cannot read weights file 'x'",
            "ros2 param set /detector weights FILE; ros2 lifecycle set /detector configure; ",
        ),
        (
            {"statuses": [(1, "/detector", "paused")]},
            WARN,
            "is active, weights coco: paused",
            "true",
        ),
        ({"statuses": [(1, "/detector", "no class 'x'")]}, WARN, "no class 'x'", "troubleshooting"),
        ({"state": "inactive"}, WARN, "is inactive", "ros2 lifecycle set /detector activate"),
        (
            {"parameters": {"use_sim_time": True}},
            WARN,
            "/clock has no publishers",
            "use_sim_time false",
        ),
        (
            {"subscriptions": {"/camera/image_rw": []}},
            FAIL,
            "/camera/image_rw has no publishers",
            "image_topics:=/camera/image_raw",
        ),
        (
            {"subscriptions": {"/x": [Connection("driver", "its type is another", "change it")]}},
            FAIL,
            "/detector: /x of driver: its type is another",
            "change it",
        ),
        (
            {"statuses": [(1, "/detector: /x", "3 invalid images; last error: …")]},
            WARN,
            "/detector: /x: 3 invalid images",
            "troubleshooting",
        ),
    ],
)
def test_what_is_wrong_with_a_detector_is_named(changed, level, what, fix):
    assert told(judged(replace(GRAPH, detectors=[replace(DETECTOR, **changed)])), level, what, fix)


def test_a_clock_makes_simulated_time_sound():
    simulated = replace(DETECTOR, parameters={"use_sim_time": True})
    findings = judged(replace(GRAPH, detectors=[simulated], has_clock=True))
    assert not told(findings, FAIL, "")


BLOCKED = Connection("driver", "QoS does not match", "remove the override")
JPEG = "sensor_msgs/msg/CompressedImage"


@pytest.mark.parametrize(
    ("changed", "level", "what", "fix"),
    [
        ({"kind": ""}, WARN, "", ""),
        ({"received": 0}, WARN, "no image in 5 s", "Fast DDS profile"),
        (
            {"received": 0, "connections": [BLOCKED]},
            WARN,
            "QoS does not match",
            "remove the override",
        ),
        (
            {"error": "encoding 'x' is not supported"},
            WARN,
            "encoding 'x' is not",
            "troubleshooting",
        ),
        ({"stamped": False}, WARN, "the stamp is 0", "header.stamp"),
        (
            {"kind": JPEG, "name": "/jpeg"},
            WARN,
            "does not end in /compressed",
            "-r /jpeg:=/jpeg/comp",
        ),
    ],
)
def test_what_is_wrong_with_an_image_topic_is_named(changed, level, what, fix):
    topic = replace(CAMERA, **changed)
    findings = judged(replace(GRAPH, topics=[topic], detectors=[]))
    if topic.kind:
        assert told(findings, level, what, fix)
    if topic.stamped:  # of topics that the user asked for, what keeps all detections away is worse
        asked = judged(replace(GRAPH, topics=[topic], detectors=[], asked=[topic.name]))
        assert told(asked, FAIL, what)


def test_a_camera_that_has_ended_is_told_without_contradiction():
    """Its images came before; the graph no longer knows it, and the detector tells its own."""
    ended = replace(CAMERA, connections=[], qos="")
    detector = replace(DETECTOR, subscriptions={CAMERA.name: []})
    findings = judged(replace(GRAPH, existing=[], topics=[ended], detectors=[detector]))
    assert told(findings, WARN, "/camera/image_raw: Image, its publisher has ended", "again")
    assert told(findings, FAIL, "/detector: /camera/image_raw has no publishers")
    assert not told(findings, OK, "works with")


def test_images_that_stopped_are_no_camera_that_works():
    stopped = replace(CAMERA, silence=4.2)  # of a driver that was killed, say
    findings = judged(replace(GRAPH, topics=[stopped]))
    assert told(findings, WARN, "30.0 Hz: the images stopped 4 s ago", "driver")
    slow = judged(replace(GRAPH, topics=[replace(stopped, rate=0.5)]))
    assert told(slow, OK, "0.5 Hz: works with")


def test_a_compressed_topic_is_told_with_its_transport():
    topic = replace(CAMERA, kind=JPEG, name="/front/image_raw/compressed")
    text = "works with image_topics:=/front/image_raw image_transport:=compressed"
    assert told(judged(replace(GRAPH, topics=[topic])), OK, text)


def test_a_topic_that_does_not_exist_is_told_with_the_nearest_one():
    absent = ImageTopic("/camera/image_rw")
    findings = judged(replace(GRAPH, topics=[absent], asked=[absent.name]))
    assert told(findings, FAIL, "/camera/image_rw has no publishers", "use /camera/image_raw")


def test_without_image_topics_the_domain_is_told():
    findings = judged(GraphSnapshot(5.0), ROS_DOMAIN_ID="7")
    assert told(findings, WARN, "no image topic exists", "in ROS domain 7")


def test_nodes_of_one_name_and_nodes_that_do_not_find_each_other_are_told():
    twins = replace(GRAPH, nodes=["/a", "/b", "/a"], peer_found=False)
    assert told(judged(twins), WARN, "2 nodes are named /a", "__node:=NAME")
    assert told(judged(twins), FAIL, "do not find each other", "INTERFACE multicast on")
    off = judged(twins, ROS_AUTOMATIC_DISCOVERY_RANGE="OFF")
    assert told(off, FAIL, "do not find each other", "unset ROS_AUTOMATIC_DISCOVERY_RANGE")


def test_a_second_node_that_could_not_be_made_is_told():
    failed = replace(GRAPH, peer_found=False, peer_failure="its process ended with exit code 1")
    findings = judged(failed)
    assert told(findings, WARN, "could not be checked with a second node: its process ended")
    assert not told(findings, FAIL, "find each other")


def test_missing_multicast_is_told_where_nodes_of_other_machines_are_looked_for():
    findings = judged(GRAPH, multicast="Network is unreachable")
    assert told(findings, WARN, "(Network is unreachable): nodes on other", "ROS_STATIC_PEERS")
    alone = judged(replace(GRAPH, peer_found=False), multicast="Network is unreachable")
    assert told(alone, FAIL, "find each other: no multicast (Network is unreachable)")


@pytest.mark.parametrize(
    ("environment", "needed"),
    [
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, False),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}, True),
        ({"ROS_LOCALHOST_ONLY": "1"}, False),
        ({"ROS_LOCALHOST_ONLY": "0"}, True),
        ({"ROS_STATIC_PEERS": "10.0.0.2"}, False),
        ({"ROS_STATIC_PEERS": "10.0.0.2", "ROS_DISTRO": "humble"}, True),
        ({"ROS_DISCOVERY_SERVER": "10.0.0.2:11811", "ROS_DISTRO": "humble"}, False),
        ({"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}, False),
    ],
)
def test_multicast_is_needed_by_the_values_of_the_variables(environment, needed):
    findings = judged(GRAPH, multicast="x", **environment)
    assert {finding.level for finding in findings} == ({OK, WARN} if needed else {OK})


def test_the_fix_of_discovery_is_one_that_the_middleware_and_the_distribution_have():
    alone = replace(GRAPH, peer_found=False)
    assert told(judged(alone, RMW_IMPLEMENTATION="rmw_zenoh_cpp"), FAIL, "", "rmw_zenohd")
    assert told(judged(alone, ROS_DISTRO="humble"), FAIL, "", "set ROS_DISCOVERY_SERVER")


def probed_multicast(preparation):
    """What is found in a network namespace of its own, after a shell's commands."""
    isolated = ["unshare", "--net", "sh", "-ec"]
    if not shutil.which("unshare") or subprocess.run([*isolated, preparation]).returncode:
        pytest.skip("needs the right to make a network namespace, and ip")
    code = "from ssd_ros.doctor import multicast; print(multicast.probe())"
    command = [*isolated, f'{preparation}; exec "$0" -c "$1"', sys.executable, code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_machine_without_a_network_has_no_multicast():
    assert probed_multicast("true") in ("No such device", "Network is unreachable")


def test_a_network_without_a_default_route_has_multicast():
    cable = "ip link add lan type veth peer name other; ip link set other up; ip link set lan up"
    assert probed_multicast(f"{cable}; ip address add 10.9.8.7/24 dev lan") == ""


def test_findings_are_shown_with_the_fix_below_and_commands_whole():
    command = "python -m " + "x" * 150
    section = Section("Title", [Finding(OK, "fine"), Finding(WARN, "bad " * 40, command)])
    lines = as_text(section).splitlines()
    assert lines[:2] == ["Title", "  OK   fine"]
    assert lines[2].startswith("  WARN bad bad")
    assert lines[3].startswith("       bad")
    assert lines[-2].startswith("       -> python -m")
    assert command.split()[-1] in lines[-1]
    assert r"\x1b[2J" in as_text(Section("", [Finding(OK, "\x1b[2J")]))
    assert worst([section]) == as_json([section])["level"] == WARN
    assert as_json([section])["sections"][0]["findings"][0] == {
        "level": OK,
        "what": "fine",
        "fix": "",
    }
