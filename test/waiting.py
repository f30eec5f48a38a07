# SPDX-License-Identifier: Apache-2.0
"""Waiting for events, however slow the machine is."""

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

PATIENCE = 120.0  # seconds until a test that hangs ends; no behaviour is judged by it
T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str, timeout: float = PATIENCE) -> T:
    """Waits until the condition is true, and returns its value."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout:g} s for {what}")
        time.sleep(0.01)
