# SPDX-License-Identifier: Apache-2.0
"""Chooses and creates the backend; an engine is imported only when it is needed."""

from __future__ import annotations

import ctypes
import importlib.util
import sys

from ssd_ros.backends.backend import Backend, BackendOptions
from ssd_ros.python_environment import how_to_get
from ssd_ros.weights.weights import Weights


def create(weights: Weights, options: BackendOptions) -> Backend:
    """The backend that the options ask for, ready to run.

    Raises:
        ValueError: there is no such device or precision here, or the engine is not installed.
    """
    backend: Backend
    if import_engine(options) == "openvino":
        from ssd_ros.backends.openvino import OpenVINOBackend

        backend = OpenVINOBackend(weights, options)
    else:
        from ssd_ros.backends.pytorch import PyTorchBackend

        backend = PyTorchBackend(weights.model(), options)
    _, reason = choose(options)
    backend.note += f"; {reason}" if reason else ""
    return backend


def import_engine(options: BackendOptions = BackendOptions()) -> str:  # noqa: B008
    """Imports the engine that `create` would use, which can take seconds, ahead of time.

    Returns:
        its name, of `backend.BACKENDS`.

    Raises:
        ValueError: the engine is not installed.
    """
    name, _ = choose(options)
    try:
        importlib.import_module(f"ssd_ros.backends.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("torch", "torchvision", "openvino"):
            raise
        raise ValueError(_not_installed(options, name, error.name or "")) from error
    return name


def choose(options: BackendOptions) -> tuple[str, str]:
    """The backend for the options: PyTorch where it has a CUDA device, else OpenVINO.

    Only OpenVINO runs int8, so that this precision selects it.
    Where OpenVINO is not installed, PyTorch runs on the CPU, too.

    Returns:
        its name, of `backend.BACKENDS`, and why `auto` is that one; empty where it was asked for.
    """
    if options.backend != "auto":
        return options.backend, ""
    if options.device == "cpu":
        reason = "device 'cpu'"
    elif options.device == "auto" and options.precision == "int8":
        reason = "precision 'int8' needs the CPU"
    elif options.device == "auto" and not _cuda_is_available():
        reason = "no CUDA device here"
    else:
        return "pytorch", "a CUDA device" if options.device == "auto" else ""
    if importlib.util.find_spec("openvino"):
        return "openvino", reason
    return "pytorch", f"{reason}, and OpenVINO is not installed"


def _not_installed(options: BackendOptions, backend: str, module: str) -> str:
    if options.backend == backend:
        return f"backend '{backend}' needs the module '{module}', which is not installed"
    if options.device.startswith("cuda"):
        return f"device '{options.device}' needs PyTorch: the module '{module}' is not installed"
    return f"no engine is installed (OpenVINO, or PyTorch): {how_to_get('openvino')}"


def _cuda_is_available() -> bool:
    """Whether PyTorch has a CUDA device; where there is no driver, without importing it.

    The import takes seconds and some hundred MB, which a robot without a GPU should not pay.
    """
    if not importlib.util.find_spec("torch"):
        return False
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    import torch

    return torch.cuda.is_available()


def release_memory() -> None:
    """Returns the GPU memory of deleted networks, which engines keep for later, to the system."""
    engine = sys.modules.get("ssd_ros.backends.pytorch")
    if engine is not None:
        engine.release_memory()
