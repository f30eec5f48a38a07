# SPDX-License-Identifier: Apache-2.0
"""The engines that can run the network, their devices, and which one `auto` chooses."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.create import choose
from ssd_ros.doctor.finding import FAIL, OK, WARN, Finding
from ssd_ros.doctor.importing import try_import

INSTALL = "pip install openvino, in the virtual environment that is active where the node starts"


@dataclass(frozen=True)
class EngineFacts:
    """What is installed.

    Attributes:
        openvino, torch: version; empty where it is not installed.
        openvino_error, torch_error: why it does not load; empty where it does, or was not tried.
        devices: of OpenVINO, with their full names.
        precisions: what `precision` `auto` gives with OpenVINO: for plain weights, for quantised.
        cuda: names of PyTorch's CUDA devices.
        cuda_version: that PyTorch was built with; empty for a build without.
        has_driver: whether an NVIDIA driver is installed.
        choice, reason: see `create.choose`.
    """

    openvino: str = ""
    openvino_error: str = ""
    devices: Sequence[str] = ()
    precisions: tuple[str, str] = ("", "")
    torch: str = ""
    torch_error: str = ""
    cuda: Sequence[str] = ()
    cuda_version: str = ""
    has_driver: bool = False
    choice: str = ""
    reason: str = ""


def probe() -> EngineFacts:
    """Loads OpenVINO, and PyTorch where it is needed: its import takes seconds.

    That is, where there is an NVIDIA driver or no other engine.
    """
    driver = _has_driver()
    openvino, torch = _version("openvino"), _version("torch")
    found = _probe_openvino() if openvino else ((), ("", ""), "")
    devices, precisions, openvino_error = found
    needed = torch and (driver or not openvino or openvino_error)
    cuda, cuda_version, torch_error = _probe_torch() if needed else ((), "", "")
    choice, reason = ("", "") if torch_error else choose(BackendOptions())
    return EngineFacts(
        openvino, openvino_error, devices, precisions,
        torch, torch_error, cuda, cuda_version, driver, choice, reason,
    )  # fmt: skip


def judge(facts: EngineFacts) -> list[Finding]:
    """Findings about engines, and what `auto` does with them."""
    findings = [_judge_openvino(facts), _judge_torch(facts)]
    usable = {
        "openvino": facts.openvino and not facts.openvino_error,
        "pytorch": facts.torch and not facts.torch_error,
    }
    if not any(usable.values()):
        findings.append(Finding(FAIL, "no engine can run the network", INSTALL))
    elif facts.choice and usable[facts.choice]:
        because = f": {facts.reason}" if facts.reason else ""
        findings.append(Finding(OK, f"backend auto chooses {facts.choice}{because}"))
    else:
        other = next(name for name, works in usable.items() if works)
        findings.append(
            Finding(
                FAIL,
                f"backend auto chooses {facts.choice or 'pytorch'}, which does not load",
                f"fix or uninstall it, or set backend:={other}",
            )
        )
    return findings


def _judge_openvino(facts: EngineFacts) -> Finding:
    if not facts.openvino:
        if facts.cuda:
            return Finding(OK, "OpenVINO is not installed: the GPU runs the network")
        level = WARN if facts.torch else FAIL
        return Finding(level, "OpenVINO is not installed: it runs the network on a CPU", INSTALL)
    if facts.openvino_error:
        return Finding(
            FAIL,
            f"OpenVINO {facts.openvino} does not load: {facts.openvino_error}",
            "pip install --force-reinstall openvino",
        )
    plain, quantised = facts.precisions
    return Finding(
        OK,
        f"OpenVINO {facts.openvino}: {'; '.join(facts.devices)}; precision auto is {plain}, for "
        f"quantised weights {quantised}",
    )


def _judge_torch(facts: EngineFacts) -> Finding:
    needed = "an NVIDIA GPU and training need it"
    if not facts.torch:
        if facts.has_driver:
            return Finding(
                WARN,
                "an NVIDIA driver is installed, but PyTorch is not: the GPU is not used",
                "pip install torch torchvision",
            )
        return Finding(OK, f"PyTorch is not installed ({needed})")
    if facts.torch_error:
        return Finding(
            WARN,
            f"PyTorch {facts.torch} does not load: {facts.torch_error}",
            "pip install --force-reinstall torch torchvision",
        )
    if facts.cuda:
        return Finding(
            OK, f"PyTorch {facts.torch}, CUDA {facts.cuda_version}: {'; '.join(facts.cuda)}"
        )
    if not facts.has_driver:
        return Finding(OK, f"PyTorch {facts.torch}, no NVIDIA driver ({needed})")
    if not facts.cuda_version:
        return Finding(
            WARN,
            f"PyTorch {facts.torch} was built without CUDA: the GPU is not used",
            "install the build of PyTorch for this driver's CUDA version (nvidia-smi shows it)",
        )
    return Finding(
        WARN,
        f"PyTorch {facts.torch} (CUDA {facts.cuda_version}) sees no device, although an NVIDIA "
        "driver is installed",
        "nvidia-smi must list the GPU; containers need --gpus all, and the driver must not be "
        "older than this CUDA version",
    )


def _probe_openvino() -> tuple[Sequence[str], tuple[str, str], str]:
    """Devices, precisions that `auto` gives, and an error."""
    loads, why = try_import("openvino")
    if not loads:
        return (), ("", ""), why
    try:
        from ssd_ros.backends.openvino import choose_precision, engine

        core = engine()
        devices = [
            f"{name} ({core.get_property(name, 'FULL_DEVICE_NAME')})"
            for name in core.available_devices
        ]
        supported = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        precisions = choose_precision("auto", supported), choose_precision("auto", supported, True)
    except Exception as error:  # a library that is missing, a processor that it does not know, …
        return (), ("", ""), f"{type(error).__name__}: {error}"
    return devices, precisions, ""


def _probe_torch() -> tuple[Sequence[str], str, str]:
    """CUDA devices, the version of CUDA, and an error."""
    loads, why = try_import("torch")
    if not loads:
        return (), "", why
    try:
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        names = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(count)]
        return names, torch.version.cuda or "", ""
    except Exception as error:  # as above
        return (), "", f"{type(error).__name__}: {error}"


def _version(module: str) -> str:
    """A package's version; empty where its module is not installed."""
    try:
        if importlib.util.find_spec(module) is None:
            return ""
        return metadata.version(module)
    except metadata.PackageNotFoundError:
        return "of unknown version"
    except (ImportError, ValueError):
        return ""


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
