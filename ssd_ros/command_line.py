# SPDX-License-Identifier: Apache-2.0
"""How `python -m` commands end when it is not their fault: a line of text, and no traceback."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any

_OWN = ("ssd_ros", "training")


def explain_ends() -> None:
    """Explains missing modules, Ctrl-C and a closed pipe, from now to the end of this process.

    A reader that closes the pipe ends the process as it ends other commands: by SIGPIPE, which a
    shell tells as 141, however much of the output had been written by then.

    File names that are not UTF-8 are printed as they are.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")
    sys.excepthook = _explain
    atexit.register(_flush)


class ClassNames(argparse.Action):
    """The option `--classes` of every command: `cup,cat`, or `cup cat`; its value is a list."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, dest, **{"nargs": "+", "metavar": "NAME", **more})

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        names = [name.strip() for value in values for name in value.split(",")]
        setattr(namespace, self.dest, names)


def plural(count: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _explain(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    elif isinstance(error, BrokenPipeError) and error.filename is None:
        _end_by_closed_pipe()
    elif isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] not in _OWN:
        files = "-r requirements.txt"
        if "training" in sys.modules:
            files += " -r requirements-training.txt"
        print(f"error: the module '{error.name}' is missing: pip install {files}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


def _flush() -> None:
    """Writes what is buffered: later, Python would complain of a reader that is gone."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _end_by_closed_pipe()


def _end_by_closed_pipe() -> None:
    """The reader of the output has what it wanted, as `head` has."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
