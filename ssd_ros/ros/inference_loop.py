# SPDX-License-Identifier: Apache-2.0
"""The thread that runs the detector on the newest frames of all cameras."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rclpy.node import Node

from ssd_ros.ros.camera import Camera
from ssd_ros.ros.decoding import FrameDecoder
from ssd_ros.ros.failures import FailureLog, RecurringProblems, kind_of
from ssd_ros.ros.frames import RECENT, DecodedFrame

if TYPE_CHECKING:
    from ssd_ros.detector import Detector

BUSY_AFTER = 2.0  # seconds after which a batch or an image that is not ready is reported
# Seconds for which a batch waits for the images that it began to decode; those that take longer
# are in a later batch.
DECODE_PATIENCE = 0.1


class InferenceLoop:
    """Detects in the newest frame of every camera that has one, as one batch, until stopped.

    Args:
        node: for the log, and for the end of its context.
        cameras: publish the detections in their frames.
        detector: runs in the loop's thread only, once that is started.
        max_frame_age: see `Camera.take`.
        frame_received: set by the cameras for every frame received; wakes the loop.

    Attributes:
        failures: of all batches.
    """

    def __init__(
        self,
        node: Node,
        cameras: Iterable[Camera],
        detector: Detector,
        max_frame_age: float,
        frame_received: threading.Event,
    ) -> None:
        self._node = node
        self._cameras = tuple(cameras)
        self._current = (detector, max_frame_age)  # replaced as a whole: a batch reads it once
        self._wake = frame_received
        self._thread: threading.Thread | None = None
        self._decoders: dict[Camera, FrameDecoder] = {}
        self._stopping = threading.Event()
        self._durations: deque[float] = deque(maxlen=RECENT)
        self._batch_since: float | None = None
        self._failure = ""
        self.failures = FailureLog()
        self._problems = RecurringProblems()
        if problem := self.class_filter_problem:
            node.get_logger().warning(problem)

    @property
    def detector(self) -> Detector:
        """The detector of the next batch."""
        return self._current[0]

    @property
    def class_filter_problem(self) -> str:
        """The names in the class filter that the weights do not have; empty if there are none.

        Not an error: weights and class filter are set one after the other, in either order.
        """
        unknown = self.detector.unknown_classes
        return f"classes: {unknown}" if unknown else ""

    @property
    def failure(self) -> str:
        """Why the last batch failed; empty if it did not."""
        return self._failure

    @property
    def busy(self) -> str:
        """What has been running for longer than BUSY_AFTER seconds, and how long; else empty."""
        since = self._batch_since
        duration = 0.0 if since is None else time.monotonic() - since
        if duration > BUSY_AFTER:
            return f"the present batch has been running for {duration:.0f} s"
        for camera, decoder in self._decoders.copy().items():
            if (duration := decoder.busy_for) > BUSY_AFTER:
                return f"an image on '{camera.topic}' has been decoded for {duration:.0f} s"
        return ""

    @property
    def recent_durations(self) -> list[float]:
        """Seconds that the latest batches took, from decoded images to detections."""
        return list(self._durations)

    def swap(self, detector: Detector, max_frame_age: float) -> None:
        """Replaces the detector and the age limit (see `Camera.take`) between two batches."""
        before = self.class_filter_problem
        self._current = (detector, max_frame_age)
        if (problem := self.class_filter_problem) and problem != before:
            self._node.get_logger().warning(problem)

    def start(self) -> None:
        """Starts the thread.

        Raises:
            RuntimeError: the thread of a stop that timed out is still running.
        """
        if self._thread is not None and self._thread.is_alive():
            raise RuntimeError("the previous inference thread has not ended yet")
        self._failure = ""
        self._stopping = threading.Event()
        self._decoders = {
            camera: FrameDecoder(camera, self._wake.set)
            for camera in self._cameras
            if camera.compressed
        }
        # A daemon: one that hangs in a driver must not keep the process from ending.
        self._thread = threading.Thread(
            target=self._run, args=(self._stopping,), name="inference", daemon=True
        )
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Ends the thread after its current batch.

        Args:
            timeout: seconds to wait for it.

        Returns:
            Whether the thread has ended; one that has not will publish nothing more.
        """
        self._stopping.set()
        self._wake.set()
        decoders, self._decoders = self._decoders, {}
        for decoder in decoders.values():
            decoder.close()
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                return False
            self._thread = None
        return True

    def _run(self, stopping: threading.Event) -> None:
        while True:
            self._wake.wait()
            # Cleared before frames are taken: one that is received later sets it again.
            self._wake.clear()
            if stopping.is_set():
                return
            try:
                self._process_newest(stopping)
            except Exception as error:  # a failed batch must not end the node
                if stopping.is_set() or not self._node.context.ok():
                    return
                self._failure = f"detection failed: {error}"
                self.failures.note(str(error))
                if self._problems.begins(kind_of(self._failure)):
                    self._node.get_logger().error(self._failure)
            finally:
                self._batch_since = None

    def _take_newest(
        self, max_frame_age: float, input_size: int
    ) -> list[tuple[Camera, DecodedFrame]]:
        """A frame of every camera that has one; images are decoded at the same time."""
        decoders = self._decoders
        for decoder in decoders.values():
            decoder.begin(max_frame_age, input_size)
        deadline = time.monotonic() + DECODE_PATIENCE
        taken = [
            (camera, decoders[camera].result(max(0.0, deadline - time.monotonic())))
            if camera in decoders
            else (camera, camera.take(max_frame_age, input_size))
            for camera in self._cameras
        ]
        return [(camera, frame) for camera, frame in taken if frame is not None]

    def _process_newest(self, stopping: threading.Event) -> None:
        detector, max_frame_age = self._current
        batch = self._take_newest(max_frame_age, detector.input_size)
        if not batch:
            return
        # Read again: a frame received after a swap is never for the detector of before.
        detector = self.detector
        start = self._batch_since = time.monotonic()
        try:
            results = detector([frame.image for _, frame in batch])
        except Exception:
            for camera, _ in batch:
                camera.give_up("failed")
            raise
        self._durations.append(time.monotonic() - start)
        failure: Exception | None = None
        for (camera, frame), detections in zip(batch, results, strict=True):
            if stopping.is_set():
                camera.give_up("discarded")
                continue
            try:
                camera.publish(frame, detections, detector.classes)
            except Exception as error:  # the other cameras' frames are published all the same
                failure = error
        if failure is not None:
            raise failure
        self._failure = ""
        self._problems.note_success()
        answers = (
            f"'{camera.topic}' {len(detections)} detections, "
            f"{1e3 * (time.monotonic() - frame.received_at):.0f} ms after arrival"
            for (camera, frame), detections in zip(batch, results, strict=True)
        )
        duration = 1e3 * self._durations[-1]
        self._node.get_logger().debug(f"batch in {duration:.0f} ms: {'; '.join(answers)}")
