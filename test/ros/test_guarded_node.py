# SPDX-License-Identifier: Apache-2.0
"""No request, message or callback ends the node or blocks it, on any version of rclpy."""

import gc
import inspect
import threading

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (pip_ros/install.py brings it)")

from diagnostic_msgs.msg import DiagnosticStatus
from graph import Graph
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from played_camera import PlayedCamera
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.executors import MultiThreadedExecutor
from rclpy.lifecycle import node as lifecycle_node
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from services import Services
from waiting import wait_for

from ssd_ros.ros import failures, image_subscription, model_loading

# For an invalid transition; since Kilted it logs the transition and answers by itself.
RCLPY_RAISES = "Unable to start transition" not in inspect.getsource(lifecycle_node)
BAD_TYPE = ParameterMsg(name="score_threshold", value=ParameterValue(type=77))
GOOD = ParameterMsg(
    name="max_detections",
    value=ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=7),
)


def alive(graph: Graph, camera: PlayedCamera, images) -> None:
    camera.detections.clear()
    camera.detect(images[0])


# --- requests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["unconfigured", "inactive", "active"])
def test_every_transition_id_is_answered_in_every_state(graph, parameters, state):
    graph.start_detector({**parameters, "autostart": False})
    node = Services(graph)
    way = {"unconfigured": [], "inactive": ["configure"], "active": ["configure", "activate"]}
    valid = {
        "unconfigured": {Transition.TRANSITION_CONFIGURE},
        "inactive": {Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_CLEANUP},
        "active": {Transition.TRANSITION_DEACTIVATE},
    }
    for step in way[state]:
        assert node.change(step)
    shutdowns = {5, 6, 7}
    refused = [n for n in (*range(100), 255) if n not in valid[state] | shutdowns]
    for number in refused:
        answer = node.call(ChangeState, "change_state", transition=Transition(id=number))
        assert not answer.success
        assert node.state == state
    assert not node.call(
        ChangeState, "change_state", transition=Transition(label="no such")
    ).success
    if RCLPY_RAISES:
        wait_for(lambda: int(graph.status("detector").values["failed callbacks"]) > 20, "the count")
        assert "change_state failed" in graph.status("detector").summary
        assert graph.status("detector").level != DiagnosticStatus.OK


def test_transitions_leave_nothing_behind_in_callback_groups(graph, parameters):
    detector = graph.start_detector({**parameters, "autostart": False})
    node, groups = Services(graph), (detector.stream_group, detector.default_callback_group)
    kept = []
    for _ in range(8):
        for label in ("configure", "activate", "deactivate", "cleanup"):
            assert node.change(label)
        gc.collect()  # else it depends on the rounds of which it has not been done yet
        kept.append(sum(len(group.entities) for group in groups))
    assert kept[-1] < 2 * kept[0]


def test_a_parameter_of_an_unknown_type_is_refused_and_the_others_are_set(
    graph, parameters, images, monkeypatch
):
    monkeypatch.setattr(failures, "REMEMBERED", 1.0)
    graph.start_detector(parameters)
    node, camera = Services(graph), PlayedCamera(graph)
    results = node.call(SetParameters, "set_parameters", parameters=[BAD_TYPE, GOOD]).results
    assert [result.successful for result in results] == [False, True]
    assert "77" in results[0].reason
    assert node.get("max_detections") == 7
    result = node.call(
        SetParametersAtomically, "set_parameters_atomically", parameters=[GOOD, BAD_TYPE]
    ).result
    assert not result.successful
    assert "77" in result.reason
    alive(graph, camera, images)
    wait_for(lambda: graph.status("detector").level == DiagnosticStatus.OK, "the status to be OK")


def test_an_error_of_any_kind_while_weights_are_loaded_refuses_them(
    graph, parameters, images, monkeypatch
):
    def fail(*given, **more):
        raise OverflowError("cannot convert float infinity to integer")

    graph.start_detector(parameters)
    with monkeypatch.context() as patched:
        patched.setattr(model_loading, "Detector", fail)
        result = Services(graph).set("weights", parameters["weights"])
    assert not result.successful
    assert "float infinity" in result.reason
    alive(graph, PlayedCamera(graph), images)


# --- messages and timers ----------------------------------------------------------------------


def test_a_message_that_cannot_be_taken_and_a_clock_that_is_invalid_do_no_harm(
    graph, parameters, images
):
    graph.start_detector({**parameters, "use_sim_time": True})
    camera = PlayedCamera(graph)
    camera.wait_for_subscribers(1)
    clock = graph.node.create_publisher(Clock, "/clock", 10)
    wait_for(lambda: clock.get_subscription_count(), "the node's clock")
    before_our_time = Clock()
    before_our_time.clock.sec = -5
    for _ in range(3):
        clock.publish(before_our_time)
        camera.publisher.publish(serialize_message(camera.kind())[:30])
        camera.publisher.publish(b"\x00\x01\x00\x00" + b"\xff" * 200)
    wait_for(lambda: int(graph.status("detector").values["failed callbacks"]) > 0, "the failures")
    alive(graph, camera, images)


def test_a_timer_that_raises_is_reported_and_runs_again(graph, parameters):
    node = graph.start_detector({**parameters, "autostart": False})
    calls = []

    def fail():
        calls.append(1)
        raise ZeroDivisionError("a timer's mistake")

    node.create_timer(0.01, fail)
    wait_for(lambda: len(calls) > 5, "further calls")
    wait_for(lambda: "a timer's mistake" in graph.status("detector").summary, "the reason")


def test_subscriptions_are_destroyed_under_load_with_the_executor_of_humble(
    graph, parameters, images, monkeypatch
):
    """There a message is taken from a destroyed subscription without a look at InvalidHandle."""
    raised = []

    def take(executor, subscription):
        try:
            with subscription.handle:
                taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
        except Exception as error:
            raised.append(error)
            raise
        if taken is None:
            return None

        async def execute():
            subscription.callback(taken[0])

        return execute

    monkeypatch.setattr(MultiThreadedExecutor, "_take_subscription", take)
    monkeypatch.setattr(image_subscription, "HAS_MESSAGE_INFO", False)  # as there
    graph.start_detector(parameters)
    camera, node = PlayedCamera(graph), Services(graph)
    camera.stream(images[3], rate=500)
    for number in range(60):
        node.enable(bool(number % 2))
        if number > 20 and raised:
            break
    node.enable(True)
    camera.detections.clear()
    wait_for(lambda: camera.detections, "detections after all that")


# --- the clock --------------------------------------------------------------------------------


def test_the_clock_runs_and_diagnostics_appear_while_weights_are_loaded(
    graph, parameters, monkeypatch
):
    loading, go_on = threading.Event(), threading.Event()
    load = model_loading.load_detector

    def slow(*given):
        loading.set()
        assert go_on.wait(120)
        return load(*given)

    detector = graph.start_detector({**parameters, "autostart": False, "use_sim_time": True})
    node = Services(graph)
    clock = graph.node.create_publisher(Clock, "/clock", 10)
    wait_for(lambda: clock.get_subscription_count(), "the node's clock")
    monkeypatch.setattr(model_loading, "load_detector", slow)
    request = ChangeState.Request(transition=Transition(label="configure"))
    future = node.begin(ChangeState, "change_state", transition=request.transition)
    try:
        wait_for(loading.is_set, "the weights to be loaded")
        message = Clock()
        message.clock.sec = 1234

        def follows() -> bool:
            clock.publish(message)
            return detector.get_clock().now().nanoseconds == 1234 * 10**9

        wait_for(follows, "the clock")
        graph.next_diagnostics(2)
        assert graph.status("detector").summary == "unconfigured"
        assert node.state == "configuring"
        assert node.get("weights") == parameters["weights"]
    finally:
        go_on.set()
    wait_for(future.done, "the transition")
    assert future.result().success
