# SPDX-License-Identifier: Apache-2.0
"""Bytes of a file as NumPy arrays."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import numpy as np

from ssd_ros.weights.weights import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

Arrays = dict[str, np.ndarray]

# Of the types that a tensor can have: PyTorch's name and the one in .safetensors files. NumPy lacks
# bfloat16, the upper half of a float32.
SAFETENSORS_NAMES = {
    **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "bool": "BOOL"},
    **{"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8"},
    **{"uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8"},
}
_STORED = {name: np.dtype(name) for name in SAFETENSORS_NAMES if name != "bfloat16"} | {
    "bfloat16": np.dtype("uint16")
}
ITEM_SIZES = {name: dtype.itemsize for name, dtype in _STORED.items()}  # in bytes
_CHUNK = 1 << 20


def read_exactly(file: IO[bytes], size: int) -> np.ndarray:
    """The next bytes of a file, uint8 (size,).

    Args:
        size: in bytes; known to be no larger than the file.

    Raises:
        WeightsError: the file ends before.
    """
    data = np.empty(size, np.uint8)
    for start in range(0, size, _CHUNK):
        wanted = min(_CHUNK, size - start)
        chunk = file.read(wanted)
        if len(chunk) < wanted:
            raise WeightsError(f"is truncated: {size - start - len(chunk)} bytes are missing")
        data[start : start + wanted] = np.frombuffer(chunk, np.uint8)
    return data


def decode(data: np.ndarray, dtype: str) -> np.ndarray:
    """Bytes as numbers of a type, (N,): a view, but float32 with the same values for bfloat16.

    Raises:
        WeightsError: NumPy lacks the type.
    """
    if dtype not in _STORED:
        raise WeightsError(f"type {dtype} is not supported")
    numbers = data.view(_STORED[dtype])
    if dtype == "bfloat16":
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers


def encode(tensor: np.ndarray | Tensor, as_bfloat16: bool) -> tuple[str, np.ndarray]:
    """A tensor's type as PyTorch calls it, and an array of the bytes that a file stores.

    Args:
        as_bfloat16: round a NumPy array of float32 to bfloat16.
    """
    if not isinstance(tensor, np.ndarray):
        tensor = tensor.detach().cpu()
        if str(tensor.dtype) != "torch.bfloat16":
            return encode(tensor.numpy(), as_bfloat16)
        tensor, as_bfloat16 = tensor.float().numpy(), True
    if not as_bfloat16:
        return tensor.dtype.name, tensor
    bits = tensor.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16  # to the nearest, to even between two
    return "bfloat16", np.where(np.isnan(tensor), 0x7FC0, rounded).astype(np.uint16)
