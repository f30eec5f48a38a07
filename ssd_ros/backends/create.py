# SPDX-License-Identifier: Apache-2.0
"""Chooses and creates the backend; an engine is imported only when it is needed."""

from __future__ import annotations

import sys

from ssd_ros.backends.backend import Backend, BackendOptions
from ssd_ros.weights.weights import Weights


def create(weights: Weights, options: BackendOptions) -> Backend:
    """The backend that the options ask for, ready to run.

    Raises:
        ValueError: there is no such device here, or the engine is not installed.
    """
    import_engine()
    from ssd_ros.backends.pytorch import PyTorchBackend

    return PyTorchBackend(weights.model(), options)


def import_engine() -> None:
    """Imports the engine that `create` would use, which takes seconds, ahead of time.

    Raises:
        ValueError: the engine is not installed.
    """
    try:
        import ssd_ros.backends.pytorch
        import ssd_ros.model.postprocess  # noqa: F401 - part of what runs on the engine
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("torch", "torchvision"):
            raise
        raise ValueError(
            f"backend 'pytorch' needs the module '{error.name}', which is not installed"
        ) from error


def release_memory() -> None:
    """Returns the GPU memory of deleted networks, which engines keep for later, to the system."""
    engine = sys.modules.get("ssd_ros.backends.pytorch")
    if engine is not None:
        engine.release_memory()
