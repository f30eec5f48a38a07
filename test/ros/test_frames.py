# SPDX-License-Identifier: Apache-2.0
"""Every frame is answered or counted, and none holds up what comes after it."""

import threading

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from diagnostic_msgs.msg import DiagnosticStatus
from graph import Status
from made_weights import CLASSES
from played_camera import PlayedCamera
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMsg
from services import Services
from waiting import wait_for

from ssd_ros.detections import Detections
from ssd_ros.messages.images import fill_image
from ssd_ros.ros import camera as camera_module
from ssd_ros.ros import failures, inference_loop, model_loading
from ssd_ros.ros.camera import Camera

NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
OUTCOMES = ("processed", "superseded", "too old", "bad", "failed", "discarded")


def accounted(status: Status) -> bool:
    return status.count("received") == sum(status.count(name) for name in OUTCOMES)


class SlowDecoding:
    """Decoding that waits in images with this `format` until it is released."""

    def __init__(self, monkeypatch):
        self.begun, self.released = threading.Event(), threading.Event()
        decode = camera_module.image_from_compressed_msg

        def decode_slowly(message, *options):
            if message.format == "slow":
                self.begun.set()
                assert self.released.wait(120)
            return decode(message, *options)

        monkeypatch.setattr(camera_module, "image_from_compressed_msg", decode_slowly)

    def send(self, camera: PlayedCamera, jpeg: CompressedImage) -> None:
        message = CompressedImage(header=camera.header(), format="slow", data=jpeg.data)
        camera.publisher.publish(message)
        wait_for(self.begun.is_set, "the decoding to begin")


@pytest.fixture
def slow(monkeypatch):
    decoding = SlowDecoding(monkeypatch)
    yield decoding
    decoding.released.set()


@pytest.fixture
def jpeg(images):

    return CompressedImage(data=cv2.imencode(".jpg", images[0])[1].tobytes())


def start_two(graph, parameters) -> tuple[PlayedCamera, PlayedCamera]:
    topics = ("good/image_raw", "slow/image_raw")
    named = [graph.name(topic) for topic in topics]
    graph.start_detector({**parameters, "image_transport": "compressed", "image_topics": named})
    good, bad = (PlayedCamera(graph, topic, compressed=True) for topic in topics)
    return good, bad


def test_an_image_that_takes_long_to_decode_holds_up_no_other_camera(
    graph, parameters, images, slow, jpeg, monkeypatch
):
    monkeypatch.setattr(inference_loop, "BUSY_AFTER", 0.5)
    good, bad = start_two(graph, parameters)
    bad.detect(images[1])
    good.detect(images[0])
    slow.send(bad, jpeg)
    for image in images:
        good.wait_for_answer(good.send(image))
    wait_for(lambda: "has been decoded for" in graph.status("detector").summary, "the reason")
    assert graph.status("detector").level == DiagnosticStatus.WARN
    assert graph.name("slow/image_raw/compressed") in graph.status("detector").summary
    waiting = bad.send(images[1])
    graph.camera_status("slow/image_raw/compressed", received=len(bad.sent) + 1)
    slow.released.set()
    bad.wait_for_answer(waiting)
    wait_for(lambda: graph.status("detector").level == DiagnosticStatus.OK, "the status to be OK")


def test_deactivating_does_not_wait_for_an_image_that_takes_long_to_decode(
    graph, parameters, images, slow, jpeg, monkeypatch
):
    good, bad = start_two(graph, parameters)
    node = Services(graph)
    bad.detect(images[1])
    slow.send(bad, jpeg)
    assert node.change("deactivate")
    assert not slow.released.is_set()
    assert node.change("activate")
    good.detect(images[0])
    bad.detect(images[1])
    slow.released.set()
    name = "slow/image_raw/compressed"
    wait_for(lambda: accounted(graph.camera_status(name, discarded=1)), "every frame's count")


def test_a_frame_of_before_a_pause_is_not_answered_after_it(graph, parameters, images, gate):
    graph.start_detector(parameters)
    camera, node = PlayedCamera(graph), Services(graph)
    camera.detect(images[0])
    gate.close()
    computing = camera.send(images[0])
    wait_for(lambda: gate.held, "a batch that is being computed")
    waiting = camera.send(images[1])
    graph.camera_status(received=len(camera.sent))
    node.enable(False)
    node.enable(True)
    gate.open()
    camera.detect(images[2])
    assert not camera.answered(computing)
    assert not camera.answered(waiting)
    status = graph.camera_status(discarded=2)
    wait_for(lambda: accounted(graph.camera_status()), f"every frame's count: {status.values}")


def test_a_callback_that_comes_after_the_end_of_its_subscription_is_discarded(graph, images):
    camera = Camera(graph.node, graph.topics("image"), False, False, None, str)
    camera.subscribe()
    message = fill_image(ImageMsg(), images[0], "bgr8")
    camera.receive(message, session=0)
    camera.unsubscribe()
    camera.subscribe()
    camera.receive(message, session=0)
    assert camera.take() is None
    assert camera.snapshot().counts.discarded == 2
    camera.receive(message, session=1)
    frame = camera.take()
    camera.unsubscribe()
    camera.publish(frame, NOTHING, CLASSES)
    assert camera.snapshot().counts.discarded == 3
    camera.close()


def test_frames_of_a_failed_batch_are_counted_and_it_is_remembered(
    graph, parameters, images, monkeypatch
):
    def fail(detector, images):
        raise RuntimeError("out of memory")

    graph.start_detector(parameters)
    camera = PlayedCamera(graph)
    camera.detect(images[0])
    with monkeypatch.context() as patched:
        patched.setattr(model_loading.Detector, "__call__", fail)
        camera.send(images[1])
        graph.camera_status(failed=1)
    monkeypatch.setattr(failures, "REMEMBERED", 1000.0)
    camera.wait_for_answer(camera.send(images[2]))
    wait_for(lambda: graph.status("detector").level == DiagnosticStatus.WARN, "the status")
    graph.next_diagnostics(2)
    status = graph.status("detector")
    assert status.summary == "1 batches failed; last error: out of memory"
    assert status.count("failed batches") == 1
    assert accounted(graph.camera_status(processed=2))
    monkeypatch.setattr(failures, "REMEMBERED", 0.0)
    wait_for(lambda: graph.status("detector").level == DiagnosticStatus.OK, "the status to be OK")


def test_a_camera_whose_answer_cannot_be_published_does_not_cost_the_others_theirs(
    graph, parameters, images, monkeypatch
):
    array = camera_module.detection_array

    def fail(header, *rest):
        if header.frame_id == "unlucky":
            raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
        return array(header, *rest)

    topics = ("a/image_raw", "b/image_raw")
    graph.start_detector({**parameters, "image_topics": [graph.name(topic) for topic in topics]})
    unlucky = PlayedCamera(graph, topics[0], frame_id="unlucky")
    lucky = PlayedCamera(graph, topics[1])
    unlucky.detect(images[0])
    monkeypatch.setattr(camera_module, "detection_array", fail)
    unlucky.stream(images[0])
    graph.camera_status(topics[0], failed=1)
    lucky.detect(images[1])
    wait_for(lambda: "surrogates" in graph.status("detector").summary, "the reason")


def test_control_characters_in_a_message_reach_neither_log_nor_diagnostics(graph, parameters):
    graph.start_detector(parameters)
    camera = PlayedCamera(graph)
    camera.wait_for_subscribers(1)
    message = ImageMsg(header=camera.header(), encoding="\x1b[2J\x07", height=1, width=1)
    camera.publisher.publish(message)
    status = graph.camera_status(bad=1)
    assert status.values["last bad"].isprintable()
    assert r"\x1b[2J\x07" in status.values["last bad"]
    assert graph.wait_for_log("dropped invalid image").isprintable()


def test_a_frame_taken_after_a_swap_is_for_the_new_detector(graph, images):
    class Recording:
        input_size, classes, unknown_classes = 300, CLASSES, ""

        def __init__(self):
            self.batches = 0

        def __call__(self, batch):
            self.batches += 1
            return [NOTHING for _ in batch]

    class Swapping(Camera):
        def take(self, *limits):
            loop.swap(new, 0.0)
            return super().take(*limits)

    old, new, received = Recording(), Recording(), threading.Event()
    camera = Swapping(graph.node, graph.topics("image"), False, False, None, received.set)
    loop = inference_loop.InferenceLoop(graph.node, [camera], old, 0.0, received)
    loop.start()
    camera.receive(fill_image(ImageMsg(), images[0], "bgr8"))
    wait_for(lambda: old.batches + new.batches, "a batch")
    assert loop.stop(60)
    assert (old.batches, new.batches) == (0, 1)
    camera.close()
