# SPDX-License-Identifier: Apache-2.0
"""The detector node through its topics, life cycle and parameters."""

import gc
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import psutil
import pytest
import torch

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from diagnostic_msgs.msg import DiagnosticStatus
from made_weights import CLASSES, OTHER_CLASSES, write_overflowing_weights
from played_camera import PlayedCamera, boxes_in, names_in, scores_in, stamp_of
from rclpy.lifecycle import ManagedEntity, TransitionCallbackReturn
from sensor_msgs.msg import Image as ImageMsg
from services import Services
from vision_msgs.msg import LabelInfo
from waiting import wait_for

from ssd_ros import detect, drawing
from ssd_ros.drawing import annotate
from ssd_ros.model.ssd import SSD
from ssd_ros.ros import detector_node, failures, model_loading
from ssd_ros.ros.camera import LATCHED
from ssd_ros.ros.parameter_table import DETECTOR

THRESHOLD = DETECTOR["score_threshold"].default


def detected_without_ros(weights, folder, output):
    """What `python -m ssd_ros.detect` writes."""
    command = [str(folder), "--weights", weights, "--json", str(output), "--device", "cpu"]
    command += ["--score-threshold", str(THRESHOLD)]
    command += ["--batch", "1"]  # as the node; other sums could swap two nearly equal scores
    assert detect.main(command) == 0
    return json.loads(output.read_text())


# --- images in, detections out --------------------------------------------------------------


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_detections_equal_those_of_the_command_line_and_carry_the_frames_headers(
    graph, parameters, images, image_folder, tmp_path, transport
):
    graph.start_detector({**parameters, "image_transport": transport})
    camera = PlayedCamera(graph, compressed=transport == "compressed", frame_id="lens")
    if transport == "compressed":
        image_folder = tmp_path
        for i, image in enumerate(images):
            (tmp_path / f"{i}.jpg").write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
    expected = detected_without_ros(parameters["weights"], image_folder, tmp_path / "out.json")
    for image, reference in zip(images, expected, strict=True):
        header = camera.header()
        message = camera.detect(image, header)
        assert message.header == header
        found = reference["detections"]
        assert len(found) > 3
        assert names_in(message) == [one["class"] for one in found]
        np.testing.assert_allclose(scores_in(message), [one["score"] for one in found], atol=1e-5)
        np.testing.assert_allclose(boxes_in(message), [one["box"] for one in found], atol=0.01)


def test_the_annotated_image_is_made_only_while_somebody_subscribes(
    graph, parameters, images, monkeypatch
):
    drawn = []

    def draw(*given):
        drawn.append(annotate(*given))
        return drawn[-1]

    monkeypatch.setattr(drawing, "annotate", draw)
    graph.start_detector(parameters)
    camera = PlayedCamera(graph)
    for image in images:
        camera.detect(image)
    assert not drawn

    annotated = graph.hear(ImageMsg, "detections_image")
    wait_for(lambda: camera.detect(images[0]) and annotated, "an annotated image")
    message = annotated[0]
    assert any(stamp_of(message.header) == stamp_of(m.header) for m in camera.detections)
    assert (message.encoding, message.height, message.width) == ("bgr8", *images[0].shape[:2])
    pixels = np.frombuffer(message.data, np.uint8).reshape(images[0].shape)
    changed = (pixels != images[0]).any(axis=2).mean()
    assert 0.01 < changed < 0.9  # lines and labels on the image that came in


def test_label_info_reaches_a_late_subscriber_with_names_and_threshold(graph, parameters, images):
    graph.start_detector(parameters)
    PlayedCamera(graph).detect(images[0])
    infos = graph.hear(LabelInfo, "label_info", LATCHED)
    info = wait_for(lambda: infos, "the label_info published before")[0]
    assert [(c.class_id, c.class_name) for c in info.class_map] == list(enumerate(CLASSES))
    assert info.threshold == pytest.approx(THRESHOLD)


# --- lifecycle --------------------------------------------------------------------------------


def test_without_autostart_the_node_waits_for_configure_and_activate(graph, parameters, images):
    graph.start_detector({**parameters, "autostart": False})
    camera, node = PlayedCamera(graph), Services(graph)
    assert node.state == "unconfigured"
    assert node.change("configure")
    assert node.state == "inactive"
    camera.wait_for_subscribers(0)
    assert node.change("activate")
    assert node.state == "active"
    camera.detect(images[0])


def test_deactivate_stops_detections_and_activate_resumes_them(graph, parameters, images):
    graph.start_detector(parameters)
    camera, node = PlayedCamera(graph), Services(graph)
    camera.detect(images[0])
    assert node.change("deactivate")
    camera.wait_for_subscribers(0)
    unseen = camera.send(images[1])
    assert node.change("activate")
    camera.detect(images[2])
    assert not camera.answered(unseen)


def test_the_whole_lifecycle_works_again_and_again(graph, parameters, images):
    graph.start_detector({**parameters, "autostart": False})
    camera, node = PlayedCamera(graph), Services(graph)
    for _ in range(5):
        assert node.change("configure")
        assert node.change("activate")
        camera.detect(images[0])
        assert node.change("deactivate")
        assert node.change("cleanup")
        assert node.state == "unconfigured"
    wait_for(
        lambda: not graph.node.get_publishers_info_by_topic(graph.name("detections")),
        "the node to take its outputs back",
    )


def test_bad_weights_leave_the_node_unconfigured_with_the_reason_until_they_are_replaced(
    graph, parameters, images, tmp_path
):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"this is no weights file")
    graph.start_detector({**parameters, "weights": str(broken)})
    node = Services(graph)
    status = graph.status("detector")
    assert status.level == DiagnosticStatus.ERROR
    assert str(broken) in status.summary
    assert node.state == "unconfigured"

    assert node.set("weights", parameters["weights"]).successful
    assert node.change("configure")
    assert node.change("activate")
    PlayedCamera(graph).detect(images[0])
    wait_for(lambda: graph.status("detector").level == DiagnosticStatus.OK, "the status to be OK")


def test_a_failed_activation_leaves_nothing_running(graph, parameters):
    override = f"qos_overrides.{graph.name('image_raw')}.subscription.history"
    graph.start_detector({**parameters, override: "no such history"})
    node = Services(graph)
    assert node.state == "inactive"
    assert graph.status("detector").level == DiagnosticStatus.ERROR
    assert "no such history" in graph.status("detector").summary
    assert "inference" not in {thread.name for thread in threading.enumerate()}


def test_managed_entities_follow_the_transitions(graph, parameters):
    node = graph.start_detector({**parameters, "autostart": False})
    publisher = node.create_lifecycle_publisher(LabelInfo, "extra", 10)
    heard, services = graph.hear(LabelInfo, graph.name("extra")), Services(graph)
    wait_for(publisher.get_subscription_count, "the subscription")
    assert services.change("configure")
    publisher.publish(LabelInfo(threshold=1.0))
    assert services.change("activate")
    publisher.publish(LabelInfo(threshold=2.0))
    wait_for(lambda: heard, "a message of the active publisher")
    assert services.change("deactivate")
    publisher.publish(LabelInfo(threshold=3.0))
    assert services.change("activate")
    publisher.publish(LabelInfo(threshold=4.0))
    wait_for(lambda: len(heard) > 1, "a message of the publisher that is active again")
    assert [message.threshold for message in heard] == [2.0, 4.0]


class FailingEntity(ManagedEntity):
    """Fails to activate."""

    def __init__(self, result):
        self.result = result

    def on_activate(self, state):
        return self.result


@pytest.mark.parametrize(
    ("result", "state"),
    [
        (TransitionCallbackReturn.FAILURE, "inactive"),
        (TransitionCallbackReturn.ERROR, "unconfigured"),
    ],
)
def test_a_managed_entity_that_fails_leaves_nothing_running(graph, parameters, result, state):
    node = graph.start_detector({**parameters, "autostart": False})
    node.add_managed_entity(FailingEntity(result))
    services = Services(graph)
    assert services.change("configure")
    assert not services.change("activate")
    assert services.state == state
    assert graph.node.get_subscriptions_info_by_topic(graph.name("image_raw")) == []
    assert "inference" not in {thread.name for thread in threading.enumerate()}
    wait_for(lambda: "managed entity" in graph.status("detector").summary, "the reason")


def test_a_batch_that_does_not_end_delays_a_transition_only_until_the_timeout(
    graph, parameters, images, gate, monkeypatch
):
    monkeypatch.setattr(detector_node, "STOP_TIMEOUT", 0.1)
    graph.start_detector(parameters)
    camera, node = PlayedCamera(graph), Services(graph)
    camera.detect(images[0])
    gate.close()
    unseen = camera.send(images[1])
    wait_for(lambda: gate.held, "a batch that does not end")
    assert node.change("deactivate")
    graph.wait_for_log("inference did not stop within 0.1 s")
    assert not node.change("activate"), "two threads must not share a detector"
    wait_for(lambda: "has not ended" in graph.status("detector").summary, "the reason")
    assert node.state == "inactive"

    gate.open()
    wait_for(lambda: node.change("activate"), "the thread to end and the node to be active")
    camera.detect(images[2])
    assert not camera.answered(unseen)


def test_a_batch_that_fails_is_reported_and_the_next_one_is_answered(
    graph, parameters, images, monkeypatch
):
    def fail(detector, images):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(failures, "REMEMBERED", 0.5)
    graph.start_detector(parameters)
    camera = PlayedCamera(graph)
    camera.detect(images[0])
    with monkeypatch.context() as patched:
        patched.setattr(model_loading.Detector, "__call__", fail)
        unseen = camera.send(images[1])
        graph.wait_for_log("detection failed: out of memory")
        wait_for(lambda: graph.status("detector").level == DiagnosticStatus.ERROR, "the status")
        assert "out of memory" in graph.status("detector").summary
    camera.detect(images[2])
    assert not camera.answered(unseen)
    wait_for(lambda: graph.status("detector").level == DiagnosticStatus.OK, "the status to be OK")


def test_an_image_whose_outputs_are_not_finite_is_an_error_and_not_an_empty_answer(
    graph, parameters, images, tmp_path, monkeypatch
):
    file = write_overflowing_weights(tmp_path / "w.safetensors", parameters["weights"], True)
    monkeypatch.setattr(failures, "REMEMBERED", 0.5)
    graph.start_detector({**parameters, "weights": str(file), "backend": "pytorch"})
    camera = PlayedCamera(graph)
    camera.detect(images[0] // 2)
    unseen = camera.send(np.full_like(images[0], 255))
    graph.wait_for_log("detection failed: the network's outputs are not finite")
    wait_for(lambda: graph.status("detector").level == DiagnosticStatus.ERROR, "the status")
    assert "not finite (NaN or infinity) in fp32" in graph.status("detector").summary
    camera.detect(images[0] // 2)
    assert not camera.answered(unseen)
    wait_for(lambda: graph.status("detector").level == DiagnosticStatus.OK, "the status to be OK")


def test_weights_whose_outputs_are_never_finite_are_refused_at_start_and_while_running(
    graph, parameters, images, tmp_path
):
    file = write_overflowing_weights(tmp_path / "w.safetensors", parameters["weights"], False)
    graph.start_detector({**parameters, "weights": str(file), "backend": "pytorch"})
    node = Services(graph)
    assert node.state == "unconfigured"
    assert graph.status("detector").level == DiagnosticStatus.ERROR
    assert "not finite" in graph.status("detector").summary

    assert node.set("weights", parameters["weights"]).successful
    assert node.change("configure")
    assert node.change("activate")
    result = node.set("weights", str(file))
    assert not result.successful
    assert "not finite" in result.reason
    PlayedCamera(graph).detect(images[0])


def test_the_log_says_why_another_precision_runs(graph, parameters, tmp_path):
    file = write_overflowing_weights(tmp_path / "w.safetensors", parameters["weights"], True)
    options = {"weights": str(file), "backend": "pytorch", "precision": "fp16"}
    graph.start_detector({**parameters, **options})
    line = graph.wait_for_log("loaded")  # 1e20 is infinite in fp16
    assert ", fp32, " in line
    assert "; fp32 instead of fp16: its outputs are not finite, ready in" in line


def test_diagnostics_continue_while_the_ros_clock_stands_still(graph, parameters):
    graph.start_detector({**parameters, "use_sim_time": True})
    graph.next_diagnostics(2)


def test_a_wrong_qos_override_found_on_resuming_is_answered(graph, parameters, images):
    override = f"qos_overrides.{graph.name('image_raw')}.subscription.history"
    graph.start_detector({**parameters, override: "no such history", "autostart": False})
    node = Services(graph)
    node.enable(False)
    assert node.change("configure")
    assert node.change("activate")
    answer = node.enable(True)
    assert not answer.success
    assert "no such history" in answer.message
    assert node.state == "active"
    wait_for(lambda: graph.status("detector").summary == "paused", "the diagnostics")


# --- parameters -------------------------------------------------------------------------------


@pytest.fixture
def running(graph, parameters):
    """The camera and the services of an active detector."""
    graph.start_detector(parameters)
    return PlayedCamera(graph), Services(graph)


def test_the_score_threshold_takes_effect_while_the_node_runs(graph, running, images):
    camera, node = running
    infos = graph.hear(LabelInfo, "label_info", LATCHED)
    before = scores_in(camera.detect(images[0]))
    higher = float(np.median(before))
    assert node.set("score_threshold", higher).successful
    assert scores_in(camera.detect(images[0])) == [score for score in before if score > higher]
    wait_for(lambda: infos and infos[-1].threshold == pytest.approx(higher), "the new label_info")


def test_max_detections_takes_effect_while_the_node_runs(running, images):
    camera, node = running
    before = scores_in(camera.detect(images[0]))
    assert node.set("max_detections", 2).successful
    assert scores_in(camera.detect(images[0])) == before[:2]


def test_the_nms_threshold_takes_effect_while_the_node_runs(running, images):
    camera, node = running
    before = len(names_in(camera.detect(images[0])))
    assert node.set("nms_iou_threshold", 0.05).successful
    assert 0 < len(names_in(camera.detect(images[0]))) < before


def test_the_class_filter_takes_effect_while_the_node_runs(running, images):
    camera, node = running
    before = names_in(camera.detect(images[0]))
    assert len(set(before)) > 1
    assert node.set("classes", [before[0]]).successful
    assert names_in(camera.detect(images[0])) == [name for name in before if name == before[0]]
    assert node.set("classes", [""]).successful
    assert names_in(camera.detect(images[0])) == before


def test_an_unknown_class_matches_nothing_and_is_reported_with_the_known_ones(
    graph, running, images
):
    camera, node = running
    before = names_in(camera.detect(images[0]))
    assert node.set("classes", ["cube", "unicorn"]).successful
    assert names_in(camera.detect(images[0])) == [name for name in before if name == "cube"]
    warning = graph.wait_for_log("classes: unknown class 'unicorn'")
    assert all(name in warning for name in CLASSES)
    wait_for(lambda: graph.status("detector").summary == warning, "the diagnostics")
    assert graph.status("detector").level == DiagnosticStatus.WARN
    assert node.set("classes", ["unicorn"]).successful
    assert names_in(camera.detect(images[0])) == []
    assert node.set("classes", [""]).successful
    assert names_in(camera.detect(images[0])) == before
    wait_for(lambda: graph.status("detector").level == DiagnosticStatus.OK, "the status")


def test_the_order_of_new_weights_and_their_classes_does_not_matter(
    graph, parameters, images, other_weights
):
    graph.start_detector(parameters)
    camera, node = PlayedCamera(graph), Services(graph)
    old, new = ["cube"], [OTHER_CLASSES[0]]
    for changes in (
        {"classes": new, "weights": other_weights},
        {"weights": parameters["weights"], "classes": old},
    ):
        for name, value in changes.items():  # as `ros2 param load`
            assert node.set(name, value).successful
        assert set(names_in(camera.detect(images[0]))) == set(changes["classes"])


def test_weights_are_swapped_while_the_node_runs(graph, running, images, other_weights):
    camera, node = running
    infos = graph.hear(LabelInfo, "label_info", LATCHED)
    assert set(names_in(camera.detect(images[0]))) <= set(CLASSES)
    assert node.set("weights", other_weights).successful
    names = names_in(camera.detect(images[0]))
    assert names
    assert set(names) <= set(OTHER_CLASSES)
    wait_for(
        lambda: infos and tuple(c.class_name for c in infos[-1].class_map) == OTHER_CLASSES,
        "label_info with the new names",
    )


def test_images_are_answered_while_new_weights_load(running, images, other_weights, monkeypatch):
    camera, node = running
    camera.detect(images[0])
    loading, go_on = threading.Event(), threading.Event()

    class SlowToLoad(model_loading.Detector):
        def __init__(self, *arguments, **options):
            loading.set()
            go_on.wait()
            super().__init__(*arguments, **options)

    monkeypatch.setattr(model_loading, "Detector", SlowToLoad)
    future = node.begin_set("weights", other_weights)
    wait_for(loading.is_set, "the node to load")
    try:
        during = [camera.detect(images[1]) for _ in range(5)]
        assert not future.done()
    finally:
        go_on.set()
    assert all(set(names_in(message)) <= set(CLASSES) for message in during)
    wait_for(future.done, "the new weights")
    assert future.result().results[0].successful
    assert set(names_in(camera.detect(images[0]))) <= set(OTHER_CLASSES)


def test_weights_that_were_replaced_are_freed(running, images, weights, other_weights):
    camera, node = running

    def models():
        gc.collect()
        return sum(type(one) is SSD for one in gc.get_objects())

    camera.detect(images[0])
    before = models()
    for file in (other_weights, weights, other_weights):
        assert node.set("weights", file).successful
        assert not node.set("weights", "missing.safetensors").successful
        camera.detect(images[0])
    wait_for(lambda: models() == before, "the models of before to be freed")


def test_loading_leaves_no_workers_with_the_thread_that_asked_for_it(graph, parameters):
    """They would compete with those of the inference thread, see `model_loading.load_detector`."""
    detector = graph.start_detector({**parameters, "backend": "pytorch", "autostart": False})
    threads = psutil.Process().num_threads

    def workers_of_its_own():
        assert detector.trigger_configure() == TransitionCallbackReturn.SUCCESS
        before = threads()
        torch.ones(10**6).sum()  # enough to be shared among workers
        return threads() - before

    with ThreadPoolExecutor(max_workers=1) as fresh:
        # At least: executors and DDS start threads, too, whenever they need one.
        assert fresh.submit(workers_of_its_own).result() >= torch.get_num_threads() - 1


def test_a_weights_file_that_was_replaced_is_loaded_again_under_its_old_name(
    graph, parameters, images, other_weights, tmp_path
):
    file = tmp_path / "mine.safetensors"
    shutil.copy(parameters["weights"], file)
    graph.start_detector({**parameters, "weights": str(file)})
    camera, node = PlayedCamera(graph), Services(graph)
    assert set(names_in(camera.detect(images[0]))) <= set(CLASSES)
    shutil.copy(other_weights, tmp_path / "new")
    (tmp_path / "new").replace(file)
    assert node.set("weights", str(file)).successful
    assert set(names_in(camera.detect(images[0]))) <= set(OTHER_CLASSES)


def test_a_weights_file_that_is_overwritten_in_place_does_no_harm(
    graph, parameters, images, tmp_path
):
    file = tmp_path / "mine.safetensors"
    shutil.copy(parameters["weights"], file)
    detector = graph.start_process(
        "ssd_ros.ros.detector_node", {**parameters, "weights": str(file)}
    )
    camera = PlayedCamera(graph)
    before = camera.detect(images[0])
    file.write_bytes(b"")
    after = camera.detect(images[0])
    assert detector.alive
    assert scores_in(after) == scores_in(before)


def test_refused_weights_change_nothing_and_give_the_reason(
    graph, running, images, parameters, tmp_path
):
    camera, node = running
    before = camera.detect(images[0])
    result = node.set("weights", str(tmp_path / "missing.safetensors"))
    assert not result.successful
    assert "missing.safetensors" in result.reason
    assert node.get("weights") == parameters["weights"]
    after = camera.detect(images[0])
    assert (names_in(after), scores_in(after)) == (names_in(before), scores_in(before))
    graph.next_diagnostics()
    assert graph.status("detector").level == DiagnosticStatus.OK


@pytest.mark.parametrize(
    ("name", "value"),
    [("image_topics", ["other"]), ("image_transport", "compressed"), ("markers", True)],
)
def test_what_is_fixed_at_configure_is_refused_until_cleanup(running, name, value):
    _, node = running
    before = node.get(name)
    result = node.set(name, value)
    assert not result.successful
    assert name in result.reason
    assert "unconfigured" in result.reason
    assert node.get(name) == before
    assert node.change("deactivate")
    assert node.change("cleanup")
    assert node.set(name, value).successful


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("score_threshold", 1.5),
        ("score_threshold", float("nan")),
        ("nms_iou_threshold", -0.1),
        ("max_detections", 0),
        ("precision", "fp8"),
        ("device", "cuda:99"),
        ("backend", "abacus"),
        ("threads", -1),
        ("weights", ""),
        ("score_threshold", "high"),
        ("score_threshold", None),  # as `ros2 param delete` asks
        ("image_topics", None),
        ("image_topics", []),
    ],
)
def test_values_out_of_range_are_refused_and_the_node_detects_on(running, images, name, value):
    camera, node = running
    before = node.get(name)
    result = node.set(name, value)
    assert not result.successful
    assert result.reason
    assert node.get(name) == before
    camera.detect(images[0])


def test_parameters_set_together_take_effect_all_or_none(running, images):
    camera, node = running
    before = names_in(camera.detect(images[0]))

    result = node.set_together(max_detections=1, weights="missing.safetensors")
    assert not result.successful
    assert "missing.safetensors" in result.reason
    assert node.get("max_detections") == 200
    assert names_in(camera.detect(images[0])) == before

    assert node.set_together(max_detections=1, classes=[before[0]]).successful
    assert names_in(camera.detect(images[0])) == before[:1]


def test_weights_and_their_classes_are_set_together(running, images, other_weights):
    camera, node = running
    camera.detect(images[0])
    assert node.set_together(weights=other_weights, classes=["pear"]).successful
    assert set(names_in(camera.detect(images[0]))) <= {"pear"}


def test_a_parameter_of_the_wrong_type_at_start_is_named_without_a_traceback(graph):
    detector = graph.start_process("ssd_ros.ros.detector_node", {"score_threshold": "high"})
    assert detector.exit_code() == 1, detector.log
    assert "score_threshold" in detector.log
    assert "Traceback" not in detector.log
