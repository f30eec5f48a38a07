# SPDX-License-Identifier: Apache-2.0
"""The one door through which weights files come in; no code in them is ever executed."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ssd_ros.model.config import TORCHVISION
from ssd_ros.weights.layouts import torchvision
from ssd_ros.weights.names import resolve
from ssd_ros.weights.native import from_native
from ssd_ros.weights.weights import (
    Weights,
    WeightsError,
    check_class_names,
    check_tensors,
    some,
)


def read(path: str | Path, classes: Sequence[str] | None = None) -> Weights:
    """Weights from a native file, or from a torchvision `ssd300_vgg16` state dict.

    No code in a file is ever executed.

    Args:
        path: `.safetensors`, or a `.pth` of plain tensors; `demo` for those in the package.
        classes: class names without the background, for a foreign file that has none of its
            own. Files with torchvision's 21 or 91 outputs need none: they are VOC and COCO.

    Raises:
        WeightsError: the file is missing, damaged, of another network, holds tensors that are
            missing, misshapen or not finite, or would run code.
    """
    path = resolve(path)
    try:
        tensors, metadata = _load(path)
        if "format" in metadata:
            weights = from_native(tensors, metadata)
            if classes is not None:
                weights = replace(weights, classes=check_class_names(list(classes)))
        elif torchvision.is_torchvision(tensors):
            tensors, names = torchvision.from_torchvision(tensors, classes)
            weights = Weights(tensors, check_class_names(names), TORCHVISION)
        else:
            raise WeightsError(
                "is of another network: it holds neither ssd_ros metadata nor the tensors of "
                "torchvision's ssd300_vgg16, but "
                + (some(sorted(tensors)) if tensors else "no tensor")
            )
        check_tensors(weights)
    except ValueError as error:
        raise WeightsError(f"weights file '{path}': {error}") from None
    return weights


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, of whatever network they are; no code in it is ever executed.

    Raises:
        WeightsError: the file is missing, damaged, or would run code.
    """
    try:
        return _load(Path(path))[0]
    except WeightsError as error:
        raise WeightsError(f"weights file '{path}': {error}") from None


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file, recognised by its first bytes, not by its name."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror}") from None
    if not start:
        raise WeightsError("is empty")
    if start.startswith(b"PK") or start.startswith(b"\x80"):
        return _load_pytorch(path), {}
    if len(start) > 8 and start[8:9] == b"{":
        try:
            with safe_open(path, framework="pt") as file:
                # Copies: a mapped file that is overwritten later would kill the process.
                tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
                return tensors, file.metadata() or {}
        except SafetensorError as error:
            raise WeightsError(f"is a damaged or truncated .safetensors file ({error})") from None
    raise WeightsError("is neither a .safetensors file nor a PyTorch state dict")


def _load_pytorch(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:  # a name would make torch choose by its suffix
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named:
            raise WeightsError(
                f"is a pickle that would call {named[1]} and so might run code when opened; save "
                "the state dict alone: torch.save(model.state_dict(), …)"
            ) from None
        raise WeightsError("is a damaged PyTorch file, or holds more than tensors") from None
    except Exception as error:  # the unpickler raises nearly anything at broken data
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise WeightsError(f"is a damaged or truncated PyTorch file ({reason})") from None
    for key in ("model", "state_dict"):  # where training scripts nest it
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise WeightsError(f"holds a {type(content).__name__}, expected a state dict of tensors")
    return dict(content)
