# SPDX-License-Identifier: Apache-2.0
"""The two kinds of files that hold tensors: safetensors, and PyTorch's. No code in them runs.

Which network the tensors are of is none of this module's business; see `layouts`.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from ssd_ros.model.layers import Shape
from ssd_ros.weights.weights import WeightsError

Arrays = dict[str, np.ndarray]

_DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"},
    **{"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8"},
}
_FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Header:
    """What a file says about its tensors.

    Attributes:
        shapes: of each tensor, by name.
        dtypes: type of each tensor: `float32`, `bfloat16`, …, or what the file calls others.
        metadata: of a .safetensors file.
    """

    shapes: Mapping[str, Shape]
    dtypes: Mapping[str, str]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def bfloat16(self) -> frozenset[str]:
        """Names of the tensors of this type, which are read as float32."""
        return frozenset(key for key, dtype in self.dtypes.items() if dtype == "bfloat16")


def open_file(path: Path) -> tuple[Header, Callable[[], Arrays]]:
    """A file's header, and a function that reads its tensors.

    The kind is recognised by the first bytes, not by the name.

    Raises:
        WeightsError: the file cannot be read, is damaged, or would run code; the function may
            raise it, too.
    """
    try:
        # Read, not mapped: a mapped file that is overwritten later would kill the process.
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror}") from None
    if not data:
        raise WeightsError("is empty")
    # First, because its first bytes are a length, and may be those of a pickle or a zip archive.
    if data[8:9] == b"{":
        return _safetensors_header(data), lambda: _safetensors_arrays(data)
    if data.startswith((b"PK", b"\x80")):
        tensors = _unpickle(data)
        header = Header(
            {key: tuple(tensor.shape) for key, tensor in tensors.items()},
            {key: str(tensor.dtype).removeprefix("torch.") for key, tensor in tensors.items()},
        )
        return header, lambda: {key: _from_torch(key, tensor) for key, tensor in tensors.items()}
    raise WeightsError("is neither a .safetensors file nor a PyTorch state dict")


def load_floats(header: Header, load: Callable[[], Arrays]) -> Arrays:
    """The tensors of a file as arrays of finite numbers.

    The batch counters of batch normalisation are integers; no network needs them to run.

    Args:
        header, load: as `open_file` returns them.

    Raises:
        WeightsError: a tensor is not floating point, or holds NaN or infinite values.
    """
    for key, dtype in header.dtypes.items():
        if dtype not in _FLOATS and not key.endswith(".num_batches_tracked"):
            raise WeightsError(f"tensor '{key}' has type {dtype}, expected floating point")
    tensors = load()
    for key, array in tensors.items():
        if not np.isfinite(array).all():
            raise WeightsError(f"tensor '{key}' holds NaN or infinite values")
    return tensors


def _safetensors_header(data: bytes) -> Header:
    """Names, shapes and types from the JSON that a .safetensors file starts with."""
    try:
        entries = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = dict(entries.pop("__metadata__", None) or {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("metadata must be texts")
        shapes = {key: tuple(map(int, entry["shape"])) for key, entry in entries.items()}
        dtypes = {key: _DTYPES.get(e["dtype"], str(e["dtype"])) for key, e in entries.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(error) from None
    return Header(shapes, dtypes, metadata)


def _safetensors_arrays(data: bytes) -> Arrays:
    try:
        entries = safetensors.deserialize(data)  # checks that all offsets lie in the file
    except safetensors.SafetensorError as error:
        raise _damaged(error) from None
    arrays = {}
    for key, entry in entries:
        if entry["dtype"] == "BF16":  # the upper half of a float32
            bits = np.frombuffer(entry["data"], "<u2").astype(np.uint32) << 16
            array = bits.view(np.float32)
        elif entry["dtype"] in _DTYPES:
            array = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]])
        else:
            raise WeightsError(f"tensor '{key}' has type {entry['dtype']}, which NumPy lacks")
        arrays[key] = array.reshape(entry["shape"])
    return arrays


def _damaged(error: Exception) -> WeightsError:
    return WeightsError(f"is a damaged or truncated .safetensors file ({error})")


def _from_torch(key: str, tensor: Any) -> np.ndarray:
    tensor = tensor.detach()
    try:
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    except (TypeError, RuntimeError) as error:  # sparse, quantised, …
        raise WeightsError(f"tensor '{key}' is no plain array ({error})") from None


def _unpickle(data: bytes) -> dict[str, Any]:
    """The PyTorch tensors of a state dict, also where a training script nested it."""
    try:
        import torch
    except ModuleNotFoundError:
        raise WeightsError(
            "is a PyTorch state dict, which only PyTorch reads; convert it where PyTorch is "
            "installed: python -m ssd_ros.weights convert SRC DST"
        ) from None
    try:
        content = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named:
            raise WeightsError(
                f"refused: the pickle references {named[1]} and could execute code; save only the "
                "state dict: torch.save(model.state_dict(), …)"
            ) from None
        raise WeightsError("is a damaged PyTorch file, or holds more than tensors") from None
    except Exception as error:  # the unpickler raises nearly anything at broken data
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise WeightsError(f"is a damaged or truncated PyTorch file ({reason})") from None
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items()
    ):
        raise WeightsError(f"holds a {type(content).__name__}, expected a state dict of tensors")
    return dict(content)
