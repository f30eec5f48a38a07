# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 node: parameters, lifecycle, cameras, the inference loop."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image as ImageMsg
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from ssd_ros.backends.create import release_memory
from ssd_ros.detections import Detections
from ssd_ros.detector import Detector
from ssd_ros.drawing import annotate
from ssd_ros.image import Image, ImageError
from ssd_ros.messages.detections import detection_array, label_info
from ssd_ros.messages.images import fill_image
from ssd_ros.messages.markers import outlines
from ssd_ros.ros import diagnostics, parameters, process
from ssd_ros.ros.camera import RECENT, Arrival, Camera, output_namespaces, stamp_ns
from ssd_ros.weights.weights import WeightsError

ADAPT_EVERY = 0.2  # seconds between two looks at who publishes the images
LOG_EVERY = 1.0  # seconds between two messages about the same kind of trouble


class DetectorNode(LifecycleNode):
    """Detects objects on camera topics.

    Three kinds of work, each in a thread: the callback group `_images` stores the newest frame of
    each camera; the default group answers services, and may take seconds to load weights; the
    inference thread takes the frames as one batch, runs the network and publishes. They share the
    cameras' slots and `_detector`, which is replaced whole and never changed.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("detector", **options)
        for name, row in parameters.PARAMETERS.items():
            self.declare_parameter(name, row.default, row.descriptor())
        self._detector: Detector | None = None
        self._cameras: list[Camera] = []
        self._thread: threading.Thread | None = None
        self._changing = threading.RLock()  # of what transitions change: subscriptions, cameras
        self._wake = threading.Condition()
        self._stopping = False
        self._failure = ""
        self._enabled = True
        self._watches: list[diagnostics.Watch] = []
        self._inference: deque[float] = deque(maxlen=RECENT)  # seconds a batch
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._images = MutuallyExclusiveCallbackGroup()
        self.create_timer(1.0, self._every_second, self._images)
        self.create_timer(ADAPT_EVERY, self._adapt_to_publishers, self._images)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.add_on_set_parameters_callback(self._on_parameters)

    # --- lifecycle ----------------------------------------------------------------------------

    def start(self) -> None:
        """Configures and activates, where the parameter `autostart` asks for it."""
        if not self.get_parameter("autostart").value:
            self.get_logger().info("waiting to be configured and activated (autostart is false)")
        elif self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the model and makes the outputs."""
        return self._transition("configure", self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribes to the cameras and starts to detect."""
        return self._transition("activate", self._activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leaves the cameras and keeps the model."""
        return self._transition("deactivate", self._deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the model and takes the outputs back."""
        return self._transition("clean up", self._cleanup)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """From any state."""
        return self._transition("shut down", self.close)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to the start, ready for a retry."""
        return self._transition("recover", self.close)

    def close(self) -> None:
        """Stops the inference thread and frees everything, from any state."""
        with self._changing:
            self._deactivate()
            self._cleanup()

    def _transition(self, name: str, step: Callable[[], None]) -> TransitionCallbackReturn:
        """Runs one step; rclpy alone would swallow the reason of a failure."""
        try:
            with self._changing:
                step()
        except Exception as error:  # whatever it is, the node lives on and says it
            self._failure = f"cannot {name}: {error}"
            self.get_logger().error(self._failure)
            return TransitionCallbackReturn.FAILURE
        self._failure = ""
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        values = self._values()
        parameters.check(values)
        self._detector = self._load(values)
        topics = [self.resolve_topic_name(topic) for topic in values["image_topics"]]
        try:
            compressed = values["image_transport"] == "compressed"
            for topic, outputs in zip(topics, output_namespaces(topics), strict=True):
                self._cameras.append(
                    Camera(
                        self,
                        topic,
                        outputs,
                        compressed,
                        values["markers"],
                        self._images,
                        self._on_frame,
                    )
                )
            name = self.get_fully_qualified_name()
            self._watches = [diagnostics.Watch(name, camera) for camera in self._cameras]
        except Exception:
            self._cleanup()
            raise

    def _activate(self) -> None:
        self._publish_label_info()
        self._stopping = False
        self._thread = threading.Thread(target=self._detect_until_stopped, name="inference")
        self._thread.start()
        try:
            self._listen(self._enabled)
        except Exception:
            self._deactivate()
            raise
        for camera in self._cameras:
            self.get_logger().info(
                f"detecting on '{camera.topic}', publishing '{camera.detections.topic_name}'"
            )

    def _deactivate(self) -> None:
        self._listen(False)
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _cleanup(self) -> None:
        for camera in self._cameras:
            camera.close()
        self._cameras.clear()
        self._inference.clear()
        self._watches.clear()
        self._detector = None
        release_memory()

    def _listen(self, wanted: bool) -> None:
        """Receives images, or leaves the cameras to others."""
        for camera in self._cameras:
            if wanted:
                camera.subscribe()
            else:
                camera.unsubscribe()

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Pauses and resumes between two frames, without a transition; kept over transitions."""
        with self._changing:
            if request.data != self._enabled:
                self._enabled = request.data
                if self._thread is not None:
                    self._listen(self._enabled)
        response.success, response.message = True, self._state()
        return response

    def _state(self) -> str:
        if self._detector is None:
            return "unconfigured"
        if self._thread is None:
            return "inactive"
        return "detecting" if self._enabled else "paused"

    # --- parameters ---------------------------------------------------------------------------

    def _values(self) -> dict[str, Any]:
        return {name: self.get_parameter(name).value for name in parameters.PARAMETERS}

    def _on_parameters(self, changed: Sequence[Parameter]) -> SetParametersResult:
        """Takes new values together, or refuses them all with the reason."""
        new = {p.name: p.value for p in changed if p.name in parameters.PARAMETERS}
        old = self._values()
        # A weights file is loaded again under its old name: it may have been trained anew.
        new = {name: v for name, v in new.items() if v != old[name] or name == "weights"}
        try:
            values = old | new
            parameters.check(values)
            if self._detector is not None and new:
                self._apply(values, new)
        except (ValueError, RuntimeError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply(self, values: dict[str, Any], new: dict[str, Any]) -> None:
        """Brings new values into force between two frames."""
        assert self._detector is not None
        fixed = [name for name in new if not parameters.PARAMETERS[name].live]
        if fixed:
            raise ValueError(
                f"{', '.join(fixed)} can be set only while the node is unconfigured: "
                f"'ros2 lifecycle set {self.get_fully_qualified_name()} deactivate', then cleanup"
            )
        if "weights" in new or "precision" in new:
            self._detector = self._load(values)
            release_memory()
        else:
            self._detector = self._detector.with_thresholds(
                parameters.limits(values), parameters.chosen_classes(values)
            )
        self._publish_label_info()

    def _load(self, values: dict[str, Any]) -> Detector:
        if not values["weights"]:
            raise WeightsError("parameter 'weights' is empty, expected a weights file")
        start = time.monotonic()

        def ready() -> Detector:
            detector = Detector(
                values["weights"],
                values["device"],
                values["precision"],
                parameters.limits(values),
                parameters.chosen_classes(values),
            )
            detector.warm_up(len(values["image_topics"]))
            return detector

        # OpenMP keeps a pool of workers for every thread that ever computed, and once there are
        # more of them than cores, it puts all to sleep after each layer: the network then takes
        # half as long again. Those of a thread that ends here end with it.
        with ThreadPoolExecutor(max_workers=1) as passing:
            detector = passing.submit(ready).result()
        self.get_logger().info(
            f"loaded '{values['weights']}': {len(detector.classes)} classes, {detector.device}, "
            f"{detector.precision}, ready in {time.monotonic() - start:.1f} s"
        )
        return detector

    def _publish_label_info(self) -> None:
        assert self._detector is not None
        header = Header(stamp=self.get_clock().now().to_msg())
        for camera in self._cameras:
            camera.label_info.publish(
                label_info(
                    header, self._detector.classes, self._detector.thresholds.score_threshold
                )
            )

    # --- inference thread ---------------------------------------------------------------------

    def _on_frame(self) -> None:
        with self._wake:
            self._wake.notify()

    def _detect_until_stopped(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopping or any(c.waiting for c in self._cameras))
                if self._stopping:
                    return
            try:
                self._detect_newest()
            except Exception as error:  # one batch is lost, never the node
                if not self.context.ok():
                    return
                self._failure = f"detection failed: {error}"
                self.get_logger().error(self._failure, throttle_duration_sec=LOG_EVERY)

    def _detect_newest(self) -> None:
        """The newest frame of every camera that has one, as one batch."""
        detector = self._detector
        assert detector is not None
        batch = [(c, *viewed) for c in self._cameras if (viewed := self._newest_image(c))]
        start = time.monotonic()
        found = detector([image for _, _, image in batch])
        if batch:
            self._inference.append(time.monotonic() - start)
        for (camera, arrival, image), detections in zip(batch, found, strict=True):
            if self._enabled:
                self._publish(camera, arrival, image, detections, detector)
        self._failure = ""

    def _newest_image(self, camera: Camera) -> tuple[Arrival, Image] | None:
        arrival = camera.take()
        if arrival is None:
            return None
        oldest = self.get_parameter("max_frame_age").value
        if oldest and self._age(arrival) > oldest:
            camera.counts.too_old += 1
            return None
        try:
            return arrival, camera.view(arrival.frame)
        except ImageError as error:
            camera.counts.bad += 1
            camera.counts.last_bad = str(error)
            self.get_logger().warning(
                f"skipped an image on '{camera.topic}': {error}", throttle_duration_sec=LOG_EVERY
            )
            return None

    def _publish(
        self,
        camera: Camera,
        arrival: Arrival,
        image: Image,
        detections: Detections,
        detector: Detector,
    ) -> None:
        header = arrival.frame.header
        camera.detections.publish(detection_array(header, detections, detector.classes))
        camera.counts.processed += 1
        camera.counts.latencies.append(self._age(arrival))
        camera.counts.handling.append(time.monotonic() - arrival.when)
        if camera.annotated.get_subscription_count():
            canvas = annotate(image, detections, detector.classes)
            camera.annotated.publish(fill_image(ImageMsg(header=header), canvas, "bgr8"))
        if camera.markers and camera.info and camera.markers.get_subscription_count():
            size = image.width, image.height
            camera.markers.publish(
                outlines(header, detections, detector.classes, size, camera.info)
            )

    def _age(self, arrival: Arrival) -> float:
        """Seconds since a frame's stamp."""
        return (self.get_clock().now().nanoseconds - stamp_ns(arrival.frame)) * 1e-9

    # --- timers -------------------------------------------------------------------------------

    def _adapt_to_publishers(self) -> None:
        with self._changing:
            for camera in self._cameras:
                camera.adapt()

    def _every_second(self) -> None:
        with self._changing:
            self._diagnose()

    def _diagnose(self) -> None:
        name = self.get_fully_qualified_name()
        weights = self.get_parameter("weights").value
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status = [
            diagnostics.node_status(
                name, weights, self._detector, self._state(), self._failure, list(self._inference)
            )
        ]
        timeout = self.get_parameter("image_timeout").value
        for watch in self._watches:
            look = watch.look(timeout, self._other_image_topics)
            message.status.append(look.status)
            if look.warning:
                self.get_logger().warning(look.warning)
            if look.news:
                self.get_logger().info(look.news)
        self._diagnostics.publish(message)

    def _other_image_topics(self) -> list[str]:
        kinds = {"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"}
        own = {name for c in self._cameras for name in (c.topic, c.annotated.topic_name)}
        topics = self.get_topic_names_and_types()
        return [name for name, types in topics if kinds & set(types) and name not in own]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `ros2 run ssd_ros detector`."""
    # While one thread loads new weights, the other goes on receiving images.
    return process.run("detector", DetectorNode, arguments, threads=2)


if __name__ == "__main__":
    sys.exit(main())
