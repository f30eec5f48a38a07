# SPDX-License-Identifier: Apache-2.0
"""Cameras of the detector: several at once, publishers of any reliability, or none at all."""

import itertools
import random
import re
import signal
import sys
import threading
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from diagnostic_msgs.msg import DiagnosticStatus
from made_weights import with_input_of_320_pixels
from played_camera import PlayedCamera, stamp_of
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMsg
from services import Services
from waiting import wait_for

from ssd_ros.detector import Detector
from ssd_ros.messages.images import as_array, fill_compressed_image, fill_image
from ssd_ros.model.config import PAPER_VOC
from ssd_ros.model.ssd import SSD
from ssd_ros.ros import camera_monitor
from ssd_ros.ros.camera import Camera
from ssd_ros.ros.failures import RecurringProblems, kind_of
from ssd_ros.ros.image_subscription import matching_reliability
from ssd_ros.ros.inference_loop import InferenceLoop
from ssd_ros.ros.topics import output_namespaces
from ssd_ros.weights.weights import Weights

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT


# --- several cameras --------------------------------------------------------------------------


def test_detections_of_two_cameras_never_mix(graph, parameters, images):
    names = ("front", "rear")
    topics = [graph.name(f"{name}/image_raw") for name in names]
    graph.start_detector({**parameters, "image_topics": topics})
    cameras = [PlayedCamera(graph, f"{name}/image_raw", frame_id=name) for name in names]
    for camera in cameras:
        camera.stream(images[0])
    for name, camera in zip(names, cameras, strict=True):
        status = graph.camera_status(f"{name}/image_raw", processed=20)
        answered_or_superseded = status.count("processed") + status.count("superseded")
        assert status.count("received") >= answered_or_superseded
        answers = [stamp_of(message.header) for message in camera.detections]
        assert answers == sorted(set(answers)), "stamps rise, none is answered twice"
        assert set(answers) <= set(camera.sent)
        assert {frame_id for _, _, frame_id in answers} == {name}


def test_a_frame_not_yet_taken_is_superseded_by_the_newest(graph, images):
    camera = Camera(graph.node, graph.topics(), False, False, None, lambda: None)
    camera.subscribe()
    played = PlayedCamera(graph)
    played.wait_for_subscribers(1)
    for count in (1, 2, 3):
        newest = played.send(images[0])
        wait_for(lambda n=count: camera.snapshot().counts.received == n, "the frame to be received")
    assert stamp_of(camera.take().header) == newest
    assert camera.take() is None
    assert camera.snapshot().counts.superseded == 2
    camera.close()


@pytest.mark.parametrize(("min_size", "height"), [(None, 480), (300, 480), (200, 240), (60, 60)])
def test_a_jpeg_is_decoded_as_small_as_the_network_allows(graph, min_size, height):
    camera = Camera(graph.node, graph.topics("image"), True, False, None, str)
    pixels = np.zeros((480, 640, 3), np.uint8)
    camera.receive(fill_compressed_image(CompressedImage(), pixels, 90))
    image = camera.take(min_size=min_size).image
    assert (image.pixels.shape[0], image.height) == (height, 480)
    camera.close()


def test_a_jpeg_is_never_decoded_smaller_than_the_network_s_own_input(graph):
    model = SSD(2, config=with_input_of_320_pixels(PAPER_VOC.with_width(0.0625)))
    detector = Detector(Weights(model.state_dict(), ("cup", "cat"), model.config))
    taken = []

    class Recording(Camera):
        def take(self, *limits):
            frame = super().take(*limits)
            taken.append(frame.image.pixels.shape[0] if frame else None)
            return frame

    received = threading.Event()
    camera = Recording(graph.node, graph.topics("image"), True, False, None, received.set)
    loop = InferenceLoop(graph.node, [camera], detector, 0.0, received)
    loop.start()
    pixels = np.zeros((600, 800, 3), np.uint8)
    camera.receive(fill_compressed_image(CompressedImage(), pixels, 90))
    wait_for(lambda: taken, "the frame to be taken")
    assert loop.stop(60)
    assert taken[0] == 600  # half of it would do for 300 pixels, but not for 320
    camera.close()


def test_what_is_taken_is_never_older_than_what_had_arrived(graph):
    """At any rate of the camera and of the inference thread."""
    camera = Camera(graph.node, graph.topics("image"), False, False, None, str)
    usual, stopping, arrived = sys.getswitchinterval(), threading.Event(), 0
    pauses, pixel = (0, 0, 0, 1e-5, 1e-3), np.zeros((1, 1, 3), np.uint8)

    def deliver():
        nonlocal arrived
        chance = random.Random(0)
        for number in itertools.count(1):
            if stopping.is_set():
                return
            frame = fill_image(ImageMsg(), pixel, "bgr8")
            frame.header.stamp.sec = number
            camera.receive(frame)
            arrived = number
            time.sleep(chance.choice(pauses))

    sys.setswitchinterval(1e-6)
    sender = threading.Thread(target=deliver)
    sender.start()
    try:
        taken, chance = [0], random.Random(1)
        while len(taken) < 2000:
            had_arrived = arrived
            frame = camera.take()
            if frame is not None:
                assert frame.header.stamp.sec >= had_arrived
                taken.append(frame.header.stamp.sec)
            time.sleep(chance.choice(pauses))
    finally:
        stopping.set()
        sender.join()
        sys.setswitchinterval(usual)
        camera.close()
    assert all(a < b for a, b in itertools.pairwise(taken))
    counts = camera.snapshot().counts
    assert counts.superseded >= counts.received - len(taken)


def test_the_newest_frame_of_every_camera_is_in_the_next_batch(graph, parameters, images, gate):
    """A camera that sends one frame while another sends many is not starved by it."""
    topics = ("fast/image_raw", "slow/image_raw")
    graph.start_detector({**parameters, "image_topics": [graph.name(topic) for topic in topics]})
    fast, slow = (PlayedCamera(graph, topic) for topic in topics)
    for camera in (fast, slow):
        camera.wait_for_subscribers(1)
        camera.wait_for_answer(camera.send(images[0]))
    gate.close()
    computing = fast.send(images[0])
    wait_for(lambda: gate.held, "a batch that is being computed")
    single = slow.send(images[0])
    for received in (3, 4, 5):
        newest = fast.send(images[0])
        graph.camera_status("fast/image_raw", received=received)
    graph.camera_status("slow/image_raw", received=2)
    gate.open()
    fast.wait_for_answer(newest)
    slow.wait_for_answer(single)
    assert [stamp_of(message.header) for message in fast.detections[1:]] == [computing, newest]
    assert gate.batches[-2:] == [1, 2]
    assert graph.camera_status("fast/image_raw", processed=3).count("superseded") == 2


def test_superseded_frames_are_counted_in_the_diagnostics(graph, parameters, images):
    graph.start_detector(parameters)
    camera = PlayedCamera(graph)
    camera.detect(images[0])
    camera.stream(images[3], rate=500)
    status = graph.camera_status(superseded=1)
    assert status.count("received") >= status.count("processed") + status.count("superseded")
    assert not status.count("bad")


@pytest.mark.parametrize(
    ("topics", "namespaces"),
    [
        (["/image_raw"], [""]),
        (["/front/image_raw"], ["/front"]),
        (["/front/image_raw", "/rear/image_raw"], ["/front", "/rear"]),
        (["/robot/front/image", "/robot/rear/image"], ["/robot/front", "/robot/rear"]),
        (["/image_left", "/image_right"], ["/image_left", "/image_right"]),
        (
            ["/stereo/left", "/stereo/right", "/rear/image_raw"],
            ["/stereo/left", "/stereo/right", "/rear"],
        ),
    ],
)
def test_outputs_are_in_the_images_namespace_and_never_shared(topics, namespaces):
    assert output_namespaces(topics) == namespaces


def test_output_namespaces_are_different_for_different_topics():
    topics = ["/a", "/b", "/a/x", "/b/x", "/b/y"]
    assert len(set(output_namespaces(topics))) == len(topics)


# --- reliability ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        ([], None),
        ([RELIABLE], RELIABLE),
        ([RELIABLE, RELIABLE], RELIABLE),
        ([BEST_EFFORT], BEST_EFFORT),
        ([RELIABLE, BEST_EFFORT], BEST_EFFORT),
        ([ReliabilityPolicy.UNKNOWN], BEST_EFFORT),
    ],
)
def test_the_subscription_is_reliable_only_where_all_publishers_are(offered, expected):
    publishers = [
        TopicEndpointInfo(qos_profile=QoSProfile(depth=1, reliability=reliability))
        for reliability in offered
    ]
    assert matching_reliability(publishers) == expected


def test_images_of_a_best_effort_and_a_reliable_publisher_of_one_topic_are_received(
    graph, parameters, images
):
    graph.start_detector(parameters)
    reliable = PlayedCamera(graph)
    reliable.detect(images[0])
    best_effort = PlayedCamera(graph, reliability=BEST_EFFORT)
    best_effort.detect(images[0])
    reliable.detect(images[0])


def test_a_reliable_publisher_gets_a_reliable_subscription(graph, parameters, images):
    graph.start_detector(parameters)
    camera = PlayedCamera(graph)
    camera.detect(images[0])
    wait_for(lambda: camera.subscribed == [RELIABLE], "a reliable subscription")


def test_a_best_effort_publisher_is_heard_where_a_reliable_one_was(graph, parameters, images):
    graph.start_detector(parameters)
    reliable = PlayedCamera(graph)
    reliable.detect(images[0])
    wait_for(lambda: reliable.subscribed == [RELIABLE], "a reliable subscription")
    graph.node.destroy_publisher(reliable.publisher)
    best_effort = PlayedCamera(graph, reliability=BEST_EFFORT)
    best_effort.detect(images[1])
    assert best_effort.subscribed == [BEST_EFFORT]


@pytest.mark.parametrize(
    ("override", "offered", "expected"),
    [("reliable", BEST_EFFORT, RELIABLE), ("best_effort", RELIABLE, BEST_EFFORT)],
)
def test_the_reliability_override_wins_over_the_publishers(
    graph, parameters, override, offered, expected
):
    name = f"qos_overrides.{graph.name('image_raw')}.subscription.reliability"
    camera = PlayedCamera(graph, reliability=offered)
    graph.start_detector({**parameters, name: override})
    wait_for(lambda: camera.subscribed == [expected], "the subscription")
    graph.next_diagnostics(2)  # meanwhile it looks at the publishers ten times
    assert camera.subscribed == [expected]


def test_a_wrong_reliability_override_is_named_and_can_be_corrected(graph, parameters, images):
    name = f"qos_overrides.{graph.name('image_raw')}.subscription.reliability"
    graph.start_detector({**parameters, name: "perfect"})
    node = Services(graph)
    assert node.state == "unconfigured"
    assert name in graph.status("detector").summary
    assert "perfect" in graph.status("detector").summary
    assert node.set(name, "auto").successful
    assert node.change("configure")
    assert node.change("activate")
    PlayedCamera(graph).detect(images[0])
    outputs = graph.node.get_publishers_info_by_topic(graph.name("detections"))
    assert len(outputs) == 1, "nothing is left of the first attempt"


# --- nobody publishes -------------------------------------------------------------------------


def test_a_topic_that_nobody_publishes_is_reported_once_with_the_image_topics_that_exist(
    graph, parameters, images
):
    other = PlayedCamera(graph, "other/image_raw")
    graph.start_detector({**parameters, "image_timeout": 1.0})
    report = graph.wait_for_log("topic has no publishers")
    graph.next_diagnostics(2)
    assert len(graph.logged("topic has no publishers")) == 1
    assert f"'{graph.name('image_raw')}'" in report
    existing = report.partition("Available image topics: ")[2]
    assert other.topic in existing
    assert "detections_image" not in existing

    PlayedCamera(graph).stream(images[0])
    graph.wait_for_log("receiving images again")


def test_a_publisher_that_cannot_be_heard_is_reported_with_both_reliabilities(graph, parameters):
    override = f"qos_overrides.{graph.name('image_raw')}.subscription.reliability"
    PlayedCamera(graph, reliability=BEST_EFFORT)
    graph.start_detector({**parameters, "image_timeout": 1.0, override: "reliable"})
    report = graph.wait_for_log("published by watcher: QoS does not match")
    assert "it offers best_effort, subscribed reliable" in report


# In a process of its own: Fast DDS allows one type for each topic of a process.
PUBLISHER_OF_ANOTHER_TYPE = """
import sys, rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage
rclpy.init()
node = rclpy.create_node("driver")
node.create_publisher(CompressedImage, sys.argv[1], qos_profile_sensor_data)
rclpy.spin(node)
"""


def test_a_publisher_of_another_message_type_is_reported_with_both_types(graph, parameters, images):
    topic = graph.name("image_raw")
    graph.start_detector({**parameters, "image_timeout": 1.0})
    graph.wait_for_log("topic has no publishers")  # a reason that changes is logged again
    other = graph.start_command([sys.executable, "-c", PUBLISHER_OF_ANOTHER_TYPE, topic])
    report = graph.wait_for_log("published by driver: its type is")
    assert "sensor_msgs/msg/CompressedImage, expected sensor_msgs/msg/Image" in report
    graph.next_diagnostics(1)
    status = graph.camera_status()
    assert status.level == DiagnosticStatus.WARN
    assert "expected sensor_msgs/msg/Image" in status.summary
    infos = graph.node.get_subscriptions_info_by_topic(topic)
    assert [info.qos_profile.reliability for info in infos] == [RELIABLE], "it is not followed"
    other.send(signal.SIGKILL)
    wait_for(lambda: not other.alive, "its end")
    PlayedCamera(graph).stream(images[0])
    graph.wait_for_log("receiving images again")


def test_a_publisher_that_sends_nothing_is_reported_as_such(graph, parameters):
    PlayedCamera(graph)
    graph.start_detector({**parameters, "image_timeout": 1.0})
    graph.wait_for_log("published by watcher: type and QoS match; it sends nothing")


# --- images that stop, age or get lost ------------------------------------------------------


def test_a_camera_that_stops_is_reported_and_picked_up_when_it_returns(graph, parameters, images):
    graph.start_detector({**parameters, "image_timeout": 1.0})
    camera = PlayedCamera(graph)
    camera.detect(images[0])
    report = re.compile(rf"no image on '{camera.topic}' for \d+ s; published by watcher")
    wait_for(lambda: any(map(report.match, graph.logged("no image on"))), "the report")
    wait_for(lambda: graph.camera_status().level == DiagnosticStatus.STALE, "the status")
    camera.stream(images[1])
    graph.wait_for_log(f"'{camera.topic}': receiving images again")
    wait_for(lambda: graph.camera_status().level == DiagnosticStatus.OK, "the status to be OK")


def test_invalid_images_of_one_camera_do_not_hide_those_of_another(graph, parameters, images):
    names = ("front/image_raw", "rear/image_raw")
    graph.start_detector({**parameters, "image_topics": [graph.name(name) for name in names]})
    cameras = [PlayedCamera(graph, name) for name in names]
    for camera in cameras:
        camera.detect(images[0])
    for _ in range(10):
        for camera in cameras:
            camera.publisher.publish(ImageMsg(header=camera.header(), encoding="bgr8"))
    for camera in cameras:
        graph.wait_for_log(f"dropped invalid image on '{camera.topic}'")


def test_an_encoding_that_is_not_supported_is_logged_once_and_stays_in_the_diagnostics(
    graph, parameters, images
):
    graph.start_detector({**parameters, "image_timeout": 1000.0})
    camera, sent = PlayedCamera(graph), 0
    camera.detect(images[0])
    for encoding in ("64FC1", "64FC2"):
        for _ in range(3):  # more than the seconds between two lines of the log
            sent += 1
            camera.publisher.publish(
                ImageMsg(header=camera.header(), encoding=encoding, height=1, width=1)
            )
            assert graph.camera_status(bad=sent).level == DiagnosticStatus.WARN
            graph.next_diagnostics()
    wait_for(lambda: len(graph.logged("encoding '64FC")) == 2, "one line for each encoding")
    camera.detect(images[0])
    assert len(graph.logged("encoding '64FC")) == 2


def test_an_invalid_image_stays_in_the_diagnostics_until_one_is_processed(
    graph, parameters, images, monkeypatch
):
    monkeypatch.setattr(camera_monitor, "REMEMBERED", 0.0)
    graph.start_detector({**parameters, "image_timeout": 1000.0})
    camera = PlayedCamera(graph)
    camera.wait_for_subscribers(1)
    camera.publisher.publish(ImageMsg(header=camera.header(), encoding="64FC1"))
    graph.camera_status(bad=1)
    graph.next_diagnostics(2)
    assert "invalid images; last error" in graph.camera_status().summary
    camera.detect(images[0])
    wait_for(lambda: graph.camera_status().level == DiagnosticStatus.OK, "the status to be OK")


def test_a_recurring_problem_begins_once_and_again_after_it_had_ended():
    problems = RecurringProblems(gone_after=0.0, log_every=0.0)
    assert [problems.begins(kind) for kind in ("a", "a", "b", "a")] == [True, False, True, False]
    problems.note_success()
    assert problems.begins("a")
    assert problems.begins_now("12 a")
    assert problems.begins_now("13 a")
    lasting = RecurringProblems(gone_after=1000.0, log_every=0.0)
    assert lasting.begins("a")
    lasting.note_success()  # one good image among bad ones is no end
    assert not lasting.begins("a")
    assert lasting.begins_now("12 a")
    assert not lasting.begins_now("13 a")


def test_problems_that_differ_in_every_message_do_not_fill_log_and_memory():
    problems = RecurringProblems(log_every=1000.0)
    assert [problems.begins(str(number)) for number in range(3)] == [True, False, False]
    assert kind_of("no image <BytesIO at 0x7f3a> of 12 bytes") == "no image <BytesIO at > of  bytes"
    many = RecurringProblems(log_every=0.0)
    assert all(many.begins(str(number)) for number in range(100))
    assert not many.begins("99")
    assert many.begins("0")  # forgotten


def test_images_of_a_12_bit_camera_are_scaled_as_the_parameter_says(graph, parameters):
    graph.start_detector({**parameters, "mono16_range": "12bit"})
    annotated = graph.hear(ImageMsg, "detections_image")
    camera = PlayedCamera(graph)
    message = ImageMsg(height=64, width=64, step=128, encoding="mono16")
    message.data = as_array(np.full((64, 64), 2048, np.uint16))

    def seen() -> bool:
        message.header = camera.header()
        camera.publisher.publish(message)
        return bool(annotated)

    wait_for(seen, "an annotated image")
    assert np.median(annotated[0].data) == 128


def test_images_older_than_the_limit_are_dropped_and_counted(graph, parameters, images):
    """The limit is far above what the slowest machine takes for an image."""
    graph.start_detector({**parameters, "max_frame_age": 1000.0, "image_timeout": 1000.0})
    camera = PlayedCamera(graph)
    camera.detect(images[0])
    old = camera.header()
    old.stamp.sec -= 2000
    stamp = camera.send(images[1], old)
    status = graph.camera_status(**{"too old": 1})
    camera.detect(images[2])
    assert not camera.answered(stamp)
    assert "older than max_frame_age" in status.summary
    assert Services(graph).set("max_frame_age", 3000.0).successful
    assert stamp_of(camera.detect(images[1], old).header) == stamp


def test_pause_and_resume_without_a_transition(graph, parameters, images):
    graph.start_detector(parameters)
    camera, node = PlayedCamera(graph), Services(graph)
    camera.detect(images[0])
    assert node.enable(False).message == "paused"
    camera.wait_for_subscribers(0)
    wait_for(lambda: graph.status("detector").summary == "paused", "the diagnostics")
    unseen = camera.send(images[1])
    assert node.state == "active"
    assert node.enable(True).message == "detecting"
    camera.detect(images[2])
    assert not camera.answered(unseen)
    # What was paused stays so over a transition.
    assert node.enable(False).success
    assert node.change("deactivate")
    assert node.change("activate")
    assert graph.node.get_subscriptions_info_by_topic(camera.topic) == []
    assert node.enable(True).message == "detecting"
    camera.detect(images[3])


def test_a_detection_of_a_camera_that_was_paused_meanwhile_is_dropped(
    graph, parameters, images, gate
):
    graph.start_detector(parameters)
    camera, node = PlayedCamera(graph), Services(graph)
    camera.detect(images[0])
    gate.close()
    computing = camera.send(images[1])
    wait_for(lambda: gate.held, "a batch that is being computed")
    assert node.enable(False).message == "paused"
    graph.next_diagnostics(2)
    processed = graph.camera_status().count("processed")
    batches = len(gate.batches)
    gate.open()
    wait_for(lambda: len(gate.batches) > batches, "the batch")
    graph.next_diagnostics(2)
    assert graph.camera_status().count("processed") == processed
    assert not camera.answered(computing)
