# SPDX-License-Identifier: Apache-2.0
"""Imports in processes of their own: a module that does not fit can end the process."""

from __future__ import annotations

import subprocess
import sys

_TIMEOUT = 60.0  # seconds for an import


def try_import(module: str) -> tuple[bool, str]:
    """Whether a module loads, in another process; and its version, or why it does not."""
    code = f"import {module} as m; print(getattr(m, '__version__', ''))"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return False, f"the import did not end within {_TIMEOUT:g} s"
    if done.returncode < 0:
        return False, f"the import crashed (signal {-done.returncode})"
    if done.returncode:
        return False, (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return True, done.stdout.strip()
