# SPDX-License-Identifier: Apache-2.0
"""Downloads the node's weights in the background, so that its services go on answering."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from ssd_ros.weights import names
from ssd_ros.weights.weights import WeightsError

if TYPE_CHECKING:
    from ssd_ros.weights.download import Progress

_POLL = 0.2  # seconds


class WeightsDownload:
    """The download of the weights that the parameter `weights` names.

    Args:
        node: has the parameter; its log says how far the download is.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()  # of the next
        self._run: _Run | None = None
        self._then: Callable[[], object] = lambda: None
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # the ROS clock may be paused
        self._timer = node.create_timer(_POLL, self._poll, clock=steady)
        self._timer.cancel()

    @property
    def status(self) -> str:
        """What is being downloaded, and how much of it is there; empty if nothing is."""
        run = self._run
        if run is None or not run.running:
            return ""
        return f"downloading weights '{run.name}': {run.progress or 'connecting'}"

    def postpones(self, then: Callable[[], object]) -> bool:
        """Starts the download that is needed first, if any.

        Returns:
            Whether there is one; then `then` is called by the executor when it has ended, or when
            the parameter has other weights.
        """
        if not self._needed():
            return False
        self._then = then
        self._timer.reset()
        return True

    def require(self, weights: str) -> None:
        """Raises WeightsError unless the weights are on this machine; starts their download."""
        with self._lock:
            run, failure = self._run, None
            if run is not None and run.name == weights and not run.running:
                failure, self._run = run.failure, None  # told now; the next call tries again
            running = failure is None and self._begin(weights)
        if failure is not None:
            raise failure
        if running:
            raise WeightsError(f"{self.status}. Try again when it is complete")

    def close(self) -> None:
        """Stops the download; it can be continued later."""
        self._timer.cancel()
        if self._run is not None:
            self._run.stop()

    def _needed(self) -> bool:
        """Whether a download is running that the parameter asks for; starts it, but not again
        after a failure."""
        weights = str(self._node.get_parameter("weights").value)
        with self._lock:
            if self._run is not None and self._run.name == weights and not self._run.running:
                return False
            return self._begin(weights)

    def _begin(self, weights: str) -> bool:
        """Starts a download, if it is necessary and not running; stops another one."""
        if self._run is not None and self._run.running:
            if self._run.name == weights:
                return True
            self._run.stop()
        if not names.missing(weights):
            return False
        self._run = _Run(weights, self._node)
        return True

    def _poll(self) -> None:
        if not self._needed():
            self._timer.cancel()
            self._then()


class _Run:
    """One download, in a thread that does not keep the process from ending."""

    def __init__(self, name: str, node: Node) -> None:
        self.name = name
        self.progress: Progress | None = None
        self.failure: WeightsError | None = None
        self._logger = node.get_logger()
        self._logged = -1  # tenths
        self._stopped = threading.Event()
        named = names.NAMED[name]
        self._logger.info(f"downloading weights '{name}': {named.url} to {named.path}")
        self._thread = threading.Thread(target=self._download, name="download", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ends the download soon; it may be waiting for the network."""
        self._stopped.set()
        self._thread.join(1.0)

    def _download(self) -> None:
        try:
            names.download(self.name, self._report, self._stopped.is_set)
        except Exception as error:  # a thread that ended without a word would look like success
            if self._stopped.is_set():  # for other weights; nobody wants to know
                return
            self.failure = error if isinstance(error, WeightsError) else WeightsError(repr(error))
            self._logger.error(str(error))
        else:
            self._logger.info(f"downloaded weights '{self.name}'")

    def _report(self, progress: Progress) -> None:
        self.progress = progress
        tenths = 10 * progress.done // progress.total if progress.total else 0
        if tenths > self._logged or (progress.waiting and self._logged < 0):
            self._logged = tenths
            self._logger.info(f"weights '{self.name}': {progress}")
