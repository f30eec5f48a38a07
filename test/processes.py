# SPDX-License-Identifier: Apache-2.0
"""Processes that tests start."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from waiting import PATIENCE


class Process:
    """A process and its log."""

    def __init__(self, command: Sequence[str], log: Path, **options: Any) -> None:
        self._log = log
        with log.open("wb") as file:
            self._popen = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, **options
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def exit_code(self, timeout: float = PATIENCE) -> int:
        """Waits for the end; after the timeout kills the process and its children and fails."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
            pytest.fail(f"process did not end within {timeout:g} s; its log:\n{self.log}")
