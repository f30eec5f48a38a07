# SPDX-License-Identifier: Apache-2.0
"""Processes: a node as one of its own, with an exit code that tells how it ended; others' ends."""

from __future__ import annotations

import gc
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor

from ssd_ros.ros import malloc


class ProcessNode(Protocol):
    """An rclpy node that a process can be made of."""

    def start(self) -> None:
        """Begins its work; called once, before it is spun."""

    def close(self) -> None:
        """Ends its work; called once, also after a failure."""

    def destroy_node(self) -> None: ...


def run(
    name: str, make: Callable[[], ProcessNode], arguments: Sequence[str] | None, threads: int = 1
) -> int:
    """Runs a node until it ends itself or a signal ends it.

    Args:
        name: of the logger, where there is no node yet.
        make: makes the node, after rclpy was initialised.
        arguments: the command line; None for the process's own.
        threads: callbacks that may run at the same time.

    Returns:
        0, or 1 where the node could not be made of its parameters; the log says why.
    """
    malloc.tune_malloc_for_images()
    rclpy.init(args=arguments)
    node = None
    try:
        node = make()
        node.start()
        rclpy.spin(node, MultiThreadedExecutor(threads) if threads > 1 else None)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception as error:
        if rclpy.ok():  # else a signal ended the context in the middle of something
            if node is not None or not isinstance(error, (ParameterException, ValueError, OSError)):
                raise
            rclpy.logging.get_logger(name).error(str(error))
            return 1
    finally:
        if node is not None:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
        # Python would look through all of PyTorch's objects for cycles once more before it ends:
        # half a second, or two on a slow machine, in which nothing is left to be done.
        gc.freeze()
    return 0


@contextmanager
def child(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block, as Ctrl-C would end it, and by force after ten seconds.

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
