# SPDX-License-Identifier: Apache-2.0
"""While the node's weights are downloaded it answers, says so, and can be told otherwise."""

import hashlib
import signal
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from diagnostic_msgs.msg import DiagnosticStatus
from file_server import serve
from graph import ROOT
from made_weights import CLASSES
from services import Services
from waiting import wait_for

from ssd_ros.weights.names import NAMED, NamedWeights

NODE = """
import sys
from ssd_ros.ros.detector_node import main
from ssd_ros.weights.names import NAMED, NamedWeights
NAMED["coco"] = NamedWeights("some", "w.safetensors", sys.argv[1], sys.argv[2])
sys.exit(main(sys.argv))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """The folder of downloaded weights, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def served(weights, monkeypatch):
    """`coco` is a file of a local server, which stops in the middle until it is released."""
    data = Path(weights).read_bytes()
    with serve(data) as (server, url):
        sha256 = hashlib.sha256(data).hexdigest()[:8]
        monkeypatch.setitem(NAMED, "coco", NamedWeights("some", "w.safetensors", url, sha256))
        server.released.clear()
        yield server


def wait_for_download(graph) -> None:
    """Until diagnostics say that the default weights are being downloaded."""
    wait_for(
        lambda: "downloading weights 'coco'" in graph.status("detector").summary,
        "the download in diagnostics",
    )


def test_the_node_answers_meanwhile_and_starts_afterwards(graph, served):
    graph.start_detector({"device": "cpu"})
    node = Services(graph)
    wait_for_download(graph)
    assert graph.status("detector").level == DiagnosticStatus.WARN
    assert node.get("weights") == "coco"
    assert node.set("score_threshold", 0.4).successful
    assert node.state == "unconfigured"
    assert not node.change("configure")
    assert "Try again when it is complete" in graph.wait_for_log("cannot configure")
    served.released.set()
    wait_for(lambda: node.state == "active", "the node to be active")
    assert graph.logged("downloaded weights 'coco'")
    assert served.requests == [None]
    wait_for(lambda: graph.status("detector").summary == "detecting", "diagnostics")
    assert graph.status("detector").values["classes"] == str(len(CLASSES))


def test_other_weights_can_be_chosen_meanwhile(graph, served):
    graph.start_detector({"device": "cpu"})
    node = Services(graph)
    wait_for_download(graph)
    assert node.set("weights", "demo").successful
    wait_for(lambda: node.state == "active", "the node to be active")
    answer = node.set("weights", "coco")  # which begins anew, as if the first had not been stopped
    assert not answer.successful
    assert answer.reason.endswith("Try again when it is complete")
    served.released.set()
    graph.next_diagnostics(2)
    assert graph.status("detector").summary == "detecting"


def test_without_a_network_the_node_says_what_to_do_and_can_be_repaired(graph, cache, monkeypatch):
    url = "http://127.0.0.1:9/weights.pth"
    monkeypatch.setitem(NAMED, "coco", NamedWeights("some", "weights.pth", url, "12345678"))
    monkeypatch.setattr("ssd_ros.weights.download._PAUSE", 0.0)
    graph.start_detector({"device": "cpu"})
    node = Services(graph)
    told = graph.wait_for_log("cannot configure")
    for part in (url, "Connection refused", f"{cache}/weights.pth", "'demo'"):
        assert part in told
    wait_for(lambda: graph.status("detector").summary == told, "the reason in diagnostics")
    assert graph.status("detector").level == DiagnosticStatus.ERROR
    assert node.state == "unconfigured"
    assert node.set("weights", "demo").successful
    assert node.change("configure")
    assert node.change("activate")


def test_a_running_node_keeps_its_weights_until_the_new_ones_are_there(graph, served, weights):
    graph.start_detector({"device": "cpu", "weights": weights})
    node = Services(graph)
    wait_for(lambda: node.state == "active", "the node to be active")
    refused = node.set("weights", "coco")
    assert not refused.successful
    assert "downloading weights 'coco'" in refused.reason
    assert node.get("weights") == weights
    graph.next_diagnostics(2)
    status = graph.status("detector")
    assert (status.level, status.summary) == (DiagnosticStatus.OK, "detecting")
    assert "downloading" in status.values["download"]
    served.released.set()
    graph.wait_for_log("downloaded weights 'coco'")
    assert node.set("weights", "coco").successful


def start_process(graph, namespace: str):
    """A detector with default weights in a process of its own."""
    named = NAMED["coco"]
    command = [sys.executable, "-c", NODE, named.url, named.sha256]
    command += ["--ros-args", "-r", f"__ns:={namespace}", "-p", "device:=cpu"]
    return graph.start_command(command, cwd=ROOT)


def test_two_nodes_download_once(graph, served):
    other = start_process(graph, f"{graph.namespace}/other")
    wait_for(served.half_sent.is_set, f"the other node's download; {other.log}")
    graph.start_detector({"device": "cpu"})
    graph.wait_for_log("another process is downloading it")
    served.released.set()
    for name in ("detector", "other/detector"):
        node = Services(graph, name)
        wait_for(lambda node=node: node.state == "active", f"{name} to be active; {other.log}")
    assert served.requests == [None]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_meanwhile(number, graph, served, cache):
    process = start_process(graph, graph.namespace)
    wait_for_download(graph)
    process.send(number)
    assert process.exit_code() == 0, process.log
    assert [path.name for path in cache.iterdir()] == ["w.safetensors.part"]
