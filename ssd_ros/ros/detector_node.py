# SPDX-License-Identifier: Apache-2.0
"""The detector node: parameters and life cycle."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from std_srvs.srv import SetBool

from ssd_ros.backends.create import import_engine, release_memory
from ssd_ros.ros import model_loading, process
from ssd_ros.ros.camera_set import CameraSet
from ssd_ros.ros.diagnostics import DiagnosticsPublisher, node_status
from ssd_ros.ros.guarded_node import SUCCESS, THREADS, GuardedLifecycleNode
from ssd_ros.ros.inference_loop import InferenceLoop
from ssd_ros.ros.node_state import NodeState
from ssd_ros.ros.parameter_table import DETECTOR
from ssd_ros.ros.parameter_updates import ParameterUpdates
from ssd_ros.ros.parameters import declare, warn_of_unknown
from ssd_ros.ros.pipeline import Pipeline, Update
from ssd_ros.ros.settings import Settings
from ssd_ros.ros.web_page import WebPage
from ssd_ros.ros.weights_download import WeightsDownload

ADAPT_EVERY = 0.2  # seconds between two checks of the image topics' publishers
STOP_TIMEOUT = 10.0  # seconds that a transition waits for the batch that is being computed
END_TIMEOUT = 1.5  # the same at the end of the process

# Parameters whose change loads a network.
LOADED = {"weights", "backend", "device", "precision", "threads"}


class DetectorNode(GuardedLifecycleNode):
    """Detects objects in images of camera topics.

    Four threads: callback group `stream_group` stores the newest frame of each camera and has the
    timers and the clock; the default group answers services, and may take seconds to load weights,
    while `reading_group` answers those that change nothing; the inference loop takes the frames,
    runs the network and publishes. They share the cameras and the detector, which is only replaced.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("detector", **options)
        for name, spec in DETECTOR.items():
            declare(self, name, spec)
        warn_of_unknown(self, DETECTOR)
        # With the base class's lock:
        self._state = NodeState.UNCONFIGURED
        self._enabled = True
        self._pipeline: Pipeline | None = None  # None while unconfigured
        self._diagnostics = DiagnosticsPublisher(self)
        self._download = WeightsDownload(self)
        self._web = WebPage(self)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # the ROS clock may be paused
        self.create_timer(1.0, self._publish_diagnostics, self.stream_group, clock=steady)
        self.create_timer(ADAPT_EVERY, self._adapt_to_publishers, self.stream_group, clock=steady)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self._parameter_updates = ParameterUpdates(self, self._prepare, self._apply)
        self.guard_services()

    # --- life cycle ---------------------------------------------------------------------------

    def start(self) -> None:
        """Configures and activates the node if `autostart` is true, after a download if need be."""
        self._web.open()
        if not self.get_parameter("autostart").value:
            self.get_logger().info("waiting to be configured and activated (autostart is false)")
        elif (
            self._state is NodeState.UNCONFIGURED
            and not self._download.postpones(self.start)
            and self.trigger_configure() == SUCCESS
        ):
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the weights and creates the outputs."""
        entities = partial(super().on_configure, state)
        return self.transition("configure", self._configure, entities, undo=self._cleanup)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribes to the image topics and starts the inference loop."""
        entities = partial(super().on_activate, state)
        return self.transition("activate", self._activate, entities, undo=self._deactivate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops the inference loop and unsubscribes; the weights stay loaded."""
        entities = partial(super().on_deactivate, state)
        return self.transition("deactivate", self._deactivate, entities)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the weights and removes the outputs."""
        return self.transition("clean up", self._cleanup, partial(super().on_cleanup, state))

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops and frees everything, from any state."""
        return self.transition("shut down", self._close, partial(super().on_shutdown, state))

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops and frees everything, so that the node can be configured again."""
        reason = self.failure
        result = self.transition("recover", self._close, partial(super().on_error, state))
        self.failure = self.failure or reason
        return result

    def close(self) -> None:
        """Stops the inference loop and frees everything, from any state."""
        self._web.close()
        self._close(END_TIMEOUT)

    def _close(self, timeout: float | None = None) -> None:
        self._download.close()
        with self.lifecycle_lock:
            self._deactivate(timeout)
            self._cleanup()

    def _configure(self) -> None:
        settings = self._parameter_updates.settings()
        detector = model_loading.load_detector(settings, self.get_logger(), self._download)
        self._web.open()
        frame_received = threading.Event()
        cameras = CameraSet(self, settings, self.stream_group, frame_received.set, self._web.view)
        self._diagnostics.set_cameras(cameras)
        loop = InferenceLoop(self, cameras, detector, settings.max_frame_age, frame_received)
        self._pipeline = Pipeline(settings, cameras, loop)
        self._set_state(NodeState.INACTIVE)

    def _activate(self) -> None:
        assert self._pipeline is not None
        self._pipeline.publish_label_info()
        self._set_state(NodeState.DETECTING if self._enabled else NodeState.PAUSED)
        self._pipeline.loop.start()
        for camera in self._pipeline.cameras:
            self.get_logger().info(
                f"detecting on '{camera.topic}', publishing '{camera.detections_topic}'"
            )

    def _deactivate(self, timeout: float | None = None) -> None:
        if self._pipeline is None:
            return
        self._set_state(NodeState.INACTIVE)
        timeout = STOP_TIMEOUT if timeout is None else timeout
        if not self._pipeline.loop.stop(timeout):
            self.get_logger().error(
                f"inference did not stop within {timeout:g} s; its result will be discarded"
            )

    def _cleanup(self) -> None:
        self._set_state(NodeState.UNCONFIGURED)
        self._diagnostics.set_cameras(())
        if self._pipeline is not None:
            self._pipeline.cameras.close()
            self._pipeline = None
        release_memory()

    def _set_state(self, state: NodeState) -> None:
        """The only place that writes the state; the subscriptions follow it."""
        self._state = state
        if self._pipeline is not None:
            self._pipeline.cameras.set_subscribed(state is NodeState.DETECTING)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Pauses and resumes between two frames, without a transition; kept over transitions."""
        with self.lifecycle_lock:
            self._enabled = request.data
            response.success = True
            try:
                if self._state in (NodeState.DETECTING, NodeState.PAUSED):
                    self._set_state(NodeState.DETECTING if self._enabled else NodeState.PAUSED)
                response.message = self._state.value
            except Exception as error:  # of a node activated while paused: a wrong QoS override
                self._enabled = False
                self._set_state(NodeState.PAUSED)
                response.success, response.message = False, f"cannot subscribe: {error}"
        return response

    # --- parameters ---------------------------------------------------------------------------

    def _prepare(self, settings: Settings, changed: Collection[str]) -> Update | None:
        """What the node runs with after a change of parameters; None while unconfigured.

        Raises:
            ValueError, RuntimeError: the change is not possible now.
        """
        pipeline = self._pipeline
        if pipeline is None:
            return None
        _check_live(changed, self.get_fully_qualified_name())
        if LOADED & set(changed):
            detector = model_loading.load_detector(settings, self.get_logger(), self._download)
            return Update(settings, detector)
        detector = pipeline.loop.detector.with_thresholds(
            settings.thresholds, settings.class_filter
        )
        return Update(settings, detector)

    def _apply(self, new: Update) -> None:
        """Puts a prepared change in force, between two frames."""
        with self.lifecycle_lock:
            try:
                if self._pipeline is not None:
                    self._pipeline.apply(new)
            except Exception as error:  # it is in force, only the new label_info is not published
                self.report_failure(f"cannot publish label_info: {error}")
        release_memory()

    # --- timers -------------------------------------------------------------------------------

    # They never wait for a transition: that would hold up images, clock and diagnostics.

    def _adapt_to_publishers(self) -> None:
        if self.lifecycle_lock.acquire(blocking=False):
            try:
                if self._pipeline is not None:
                    self._pipeline.cameras.adapt()
            finally:
                self.lifecycle_lock.release()

    def _publish_diagnostics(self) -> None:
        pipeline = self._pipeline
        status = node_status(
            self.get_fully_qualified_name(),
            str(self.get_parameter("weights").value),
            self._state,
            self.failure,
            self.callback_failures,
            pipeline.loop if pipeline else None,
            self._download.status,
            (self._diagnostics.name_problem(), self._web.problem),
        )
        timeout = pipeline.settings.image_timeout if pipeline else 0.0
        message = self._diagnostics.publish(status, timeout)
        self._web.note(message, pipeline.loop.detector.classes if pipeline else ())


def _check_live(changed: Collection[str], node: str) -> None:
    """Refuses a change of parameters that need an unconfigured node."""
    fixed = [name for name in changed if not DETECTOR[name].live]
    if fixed:
        raise ValueError(
            f"{', '.join(fixed)} can be set only while the node is unconfigured: "
            f"'ros2 lifecycle set {node} deactivate', then cleanup"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the node as a process; `ssd_ros.ros.commands` is the entry point."""
    # The import takes seconds. Later, while the weights are loaded, no signal could interrupt it.
    with contextlib.suppress(ValueError):  # not installed: configuring the node says so
        import_engine()
    return process.run("detector", DetectorNode, arguments, THREADS)


if __name__ == "__main__":
    from ssd_ros.ros import commands  # with --help, and quiet when it is interrupted

    sys.exit(commands.detector())
