# SPDX-License-Identifier: Apache-2.0
"""Weights that have a name instead of a path."""

from __future__ import annotations

from pathlib import Path

DEMO = "demo"  # the weights that come with the package


def resolve(weights: str | Path) -> Path:
    """The file that a name or a path stands for."""
    if str(weights) == DEMO:
        return Path(__file__).with_name("demo.safetensors")
    return Path(weights).expanduser()
