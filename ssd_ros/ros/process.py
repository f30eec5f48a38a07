# SPDX-License-Identifier: Apache-2.0
"""Runs a node as a process with an exit code; child processes."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.signals import SignalHandlerOptions

from ssd_ros.ros import malloc, signals
from ssd_ros.ros.executor import create_executor

THREADS_END_WITHIN = 0.5  # seconds, after the node is closed


class ProcessNode(Protocol):
    """An rclpy node with a start and an end, as `run` needs it."""

    def start(self) -> None:
        """Starts the node's work; called once, before it is spun."""

    def report_failure(self, text: str) -> None:
        """Called with every exception of a callback, which does not end the node."""

    def close(self) -> None:
        """Ends the node's work; called once, also after a failure."""

    def destroy_node(self) -> None: ...


def run(
    name: str, make: Callable[[], ProcessNode], arguments: Sequence[str] | None, threads: int = 1
) -> int:
    """Runs a node until it ends itself or a signal ends it; call it in the main thread.

    After a signal the process ends within `signals.STOP_WITHIN`, whatever it is doing.

    Args:
        name: name of the logger until the node exists.
        make: creates the node; called after rclpy.init.
        arguments: the command line; None for sys.argv.
        threads: number of callbacks that may run at the same time.

    Returns:
        0, or 1 if the node could not be created from its arguments; the log says why.
    """
    stop = signals.install()
    stop.call(lambda: None)  # from here on the end is an orderly one
    malloc.tune_malloc_for_images()
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # rclpy has several types for arguments that it cannot parse
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    node = None
    try:
        try:
            node = make()
        except (ParameterException, ValueError, OSError) as error:
            rclpy.logging.get_logger(name).error(str(error))
            return 1
        executor = create_executor(threads, node.report_failure)
        stop.call(executor.wake)
        if not stop.stopping:
            node.start()
        executor.add_node(node)
        while not stop.stopping:
            executor.spin_once()
    except ExternalShutdownException:
        pass
    finally:
        if node is not None:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
        # At exit Python would search all of PyTorch's objects for cycles once more: half a second,
        # or two on a slow machine, that free nothing of use.
        gc.freeze()
        stop.finish()
    if _still_computing():
        signals.end_now(0)
    return 0


def _still_computing() -> bool:
    """Whether threads of the node have not ended: Python's exit would crash in their middle."""
    deadline = time.monotonic() + THREADS_END_WITHIN
    own = [t for t in threading.enumerate() if t.daemon and t.name in ("inference", "decoding")]
    for thread in own:
        thread.join(max(0.0, deadline - time.monotonic()))
    return any(thread.is_alive() for thread in own)


@contextmanager
def child(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is interrupted at the end of the block, and killed ten seconds later.

    Args:
        command, options: as of `subprocess.Popen`.
    """
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
