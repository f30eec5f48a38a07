# SPDX-License-Identifier: Apache-2.0
"""What `colcon test` runs: tests of the installed package that take no longer than a minute.

colcon's Python is the system's, which lacks what a virtual environment holds: a test that needs
such a module is skipped with its name. Everywhere else a module that is missing is an error.
"""

from __future__ import annotations

import importlib.abc
import sys
import threading
from typing import Any

import pytest

FAST = "not graph and not training and not slow"
# Tests of what colcon does not install, and of environments.
OTHERS = ["demo", "training", "test_benchmarks.py", "test_command_line.py", "test_without_torch.py"]
# What requirements*.txt bring and ROS does not; and cv_bridge, which is tried after its substitute.
NOT_EVERYWHERE = set("cv_bridge hypothesis openvino psutil safetensors torch torchvision".split())


def configure(config: pytest.Config) -> list[str]:
    """Selects tests if it is colcon that runs them, unless its user has.

    Returns:
        what is not to be collected, relative to the folder of the tests.
    """
    if not config.getoption("junitprefix"):  # only colcon gives one
        return []
    config.option.markexpr = config.option.markexpr or FAST
    sys.meta_path.append(_SkipWithout())
    return OTHERS


class _SkipWithout(importlib.abc.MetaPathFinder):
    """Asked for a module only if no other finder has it: skips the test, or the file of tests."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in NOT_EVERYWHERE and threading.current_thread() is threading.main_thread():
            pytest.skip(f"needs the module '{name}'", allow_module_level=True)
