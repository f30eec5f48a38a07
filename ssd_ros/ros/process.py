# SPDX-License-Identifier: Apache-2.0
"""Runs a node as a process with an exit code; child processes."""

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
    """An rclpy node with a start and an end, as `run` needs it."""

    def start(self) -> None:
        """Starts the node's work; called once, before it is spun."""

    def close(self) -> None:
        """Ends the node's work; called once, also after a failure."""

    def destroy_node(self) -> None: ...


def run(
    name: str, make: Callable[[], ProcessNode], arguments: Sequence[str] | None, threads: int = 1
) -> int:
    """Runs a node until it ends itself or a signal ends it.

    Args:
        name: name of the logger until the node exists.
        make: creates the node; called after rclpy.init.
        arguments: the command line; None for sys.argv.
        threads: number of callbacks that may run at the same time.

    Returns:
        0, or 1 if the node could not be created from its parameters; the log says why.
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
        if rclpy.ok():  # else a signal ended the context
            if node is not None or not isinstance(error, (ParameterException, ValueError, OSError)):
                raise
            rclpy.logging.get_logger(name).error(str(error))
            return 1
    finally:
        if node is not None:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
        # At exit Python would search all of PyTorch's objects for cycles once more: half a second,
        # or two on a slow machine, that free nothing of use.
        gc.freeze()
    return 0


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
