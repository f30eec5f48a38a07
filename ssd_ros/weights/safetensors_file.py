# SPDX-License-Identifier: Apache-2.0
"""The tensors in a .safetensors file.

Without the library of that name: it maps a file into memory, and a mapped file that is overwritten
meanwhile kills the process; or it takes the whole file as bytes, before anything could be checked.
It lacks bfloat16 without PyTorch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ssd_ros.model.layers import Shape
from ssd_ros.weights.arrays import ITEM_SIZES, SAFETENSORS_NAMES, Arrays, decode, read_exactly
from ssd_ros.weights.weights import WeightsError

MAX_HEADER = 1 << 22  # bytes; those of an SSD are a thousandth of that
_DTYPES = {theirs: ours for ours, theirs in SAFETENSORS_NAMES.items()}


class Entry(NamedTuple):
    """A tensor in the file; `start` and `end` count bytes behind the header."""

    dtype: str
    shape: Shape
    start: int
    end: int


def read_header(file: BinaryIO, size: int) -> tuple[dict[str, Entry], dict[str, str]]:
    """The tensors of a file of `size` bytes by name, and its metadata.

    Leaves the file behind its header.

    Raises:
        WeightsError: the header is damaged, or does not describe the file.
    """
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise _damaged(f"its header has {length} bytes, expected at most {MAX_HEADER}")
    try:
        entries = json.loads(file.read(length).decode())
        metadata = dict(entries.pop("__metadata__", None) or {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("metadata must be texts")
        tensors = {key: _entry(value) for key, value in entries.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(f"{error}") from None
    _check_positions(tensors, size - 8 - length)
    return tensors, metadata


def load(file: BinaryIO, tensors: Mapping[str, Entry]) -> Arrays:
    """Reads the tensors from a file that is where `read_header` left it.

    Raises:
        WeightsError: NumPy lacks the type of a tensor, or the file is shorter than it was.
    """
    arrays = {}
    for key, entry in sorted(tensors.items(), key=lambda item: item[1].start):
        data = read_exactly(file, entry.end - entry.start)
        arrays[key] = decode(data, entry.dtype).reshape(entry.shape)
    return arrays


def to_bytes(tensors: Mapping[str, tuple[str, np.ndarray]], metadata: Mapping[str, str]) -> bytes:
    """The content of a file.

    Args:
        tensors: type and bytes of each tensor, as `arrays.encode` returns them.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    parts, end = [], 0
    # Types of large items first, so that every tensor is aligned to its items.
    for key, (dtype, array) in sorted(tensors.items(), key=lambda item: -item[1][1].itemsize):
        header[key] = {
            "dtype": SAFETENSORS_NAMES[dtype],
            "shape": array.shape,
            "data_offsets": (end, end + array.nbytes),
        }
        parts.append(array.tobytes())
        end += array.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def _entry(values: Any) -> Entry:
    shape, (start, end) = tuple(values["shape"]), values["data_offsets"]
    if len(shape) > 16 or not all(
        type(n) is int and 0 <= n < 1 << 48 for n in (*shape, start, end)
    ):
        raise ValueError(f"a tensor has shape {shape!r:.80} at {start!r:.20} to {end!r:.20}")
    dtype = _DTYPES.get(values["dtype"], str(values["dtype"]))
    if dtype in ITEM_SIZES and math.prod(shape) * ITEM_SIZES[dtype] != end - start:
        raise ValueError(f"a tensor of shape {shape} and type {dtype} has {end - start} bytes")
    return Entry(dtype, shape, start, end)


def _check_positions(tensors: Mapping[str, Entry], size: int) -> None:
    """Checks that the tensors fill the file, one behind the other, as the format demands."""
    end = 0
    for entry in sorted(tensors.values(), key=lambda entry: (entry.start, entry.end)):
        if entry.start != end or entry.end < end:
            raise _damaged(f"a tensor starts at byte {entry.start}, expected {end}")
        end = entry.end
    if end != size:
        raise _damaged(f"it has {size} bytes of tensors, expected {end}")


def _damaged(reason: str) -> WeightsError:
    return WeightsError(f"is a damaged or truncated .safetensors file ({reason})")
