# SPDX-License-Identifier: Apache-2.0
"""The tensors in what `torch.save` writes, read without PyTorch. Nothing in the file is executed.

Since PyTorch 1.6 it is a zip archive, uncompressed, with a pickle and an entry for each storage; a
tensor is a view of a storage. Before, it was several pickles, and behind them the storages.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np

from ssd_ros.model.layers import Shape
from ssd_ros.weights.arrays import ITEM_SIZES, Arrays, decode, read_exactly
from ssd_ros.weights.pickle_data import Global, Opaque, interpret
from ssd_ros.weights.weights import WeightsError

MAX_DIMENSIONS = 32  # of a tensor; those of an SSD have four
MAX_PICKLE = 1 << 20  # bytes; of an SSD with its optimiser it is a tenth of that
ZIP = b"PK"
_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file before PyTorch 1.6
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}


@dataclass(frozen=True)
class Storage:
    """A row of numbers in the file: its key there, its type, and how many they are."""

    key: str
    dtype: str
    count: int

    @property
    def size(self) -> int:
        """In bytes."""
        return self.count * ITEM_SIZES.get(self.dtype, 1)


@dataclass(frozen=True)
class TensorView:
    """A tensor: a view of a storage, with offset and strides in elements of `dtype`."""

    storage: Storage
    offset: int
    shape: Shape
    strides: Shape
    dtype: str


Content = tuple[Any, Callable[[Storage], np.ndarray]]


def open_zip(file: BinaryIO) -> Content:
    """The content of a file since PyTorch 1.6, and a function that reads a storage.

    Returns:
        Containers, texts and numbers with a `TensorView` for each tensor and an `Opaque` for
        whatever else is in the pickle; and a function that gives the bytes of a storage.

    Raises:
        WeightsError, and other exceptions of broken data.
    """
    archive = zipfile.ZipFile(_LimitedReads(file))
    names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(names) != 1:
        raise WeightsError("is a zip archive, but not one that torch.save wrote")
    folder = names[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in archive.namelist():
        raise WeightsError(
            "is a TorchScript archive, expected a state dict: torch.save(model.state_dict(), …)"
        )

    def entry(name: str) -> zipfile.ZipInfo:
        info = archive.getinfo(folder + name)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise WeightsError(f"has a compressed entry '{name}', which torch.save does not write")
        return info

    def small(name: str) -> bytes:
        info = entry(name)
        if info.file_size > MAX_PICKLE:
            raise WeightsError(
                f"entry '{name}' has {info.file_size} bytes, expected at most {MAX_PICKLE}"
            )
        return archive.read(info)

    def bytes_of(storage: Storage) -> np.ndarray:
        info = entry(f"data/{storage.key}")
        if info.file_size != storage.size:
            raise WeightsError(
                f"entry 'data/{storage.key}' has {info.file_size} bytes, expected {storage.size}"
            )
        with archive.open(info) as opened:  # compares the checksum, too
            return read_exactly(opened, storage.size)

    if f"{folder}byteorder" in archive.namelist():
        _check_order(small("byteorder") == b"little")
    return interpret(BytesIO(small("data.pkl")), _call, _storage), bytes_of


def open_legacy(file: BinaryIO) -> Content:
    """As `open_zip`, of a file before PyTorch 1.6, or of a bare pickle."""
    stream = BytesIO(file.read(MAX_PICKLE))
    storages: dict[str, Storage] = {}

    def persistent(identity: Any) -> Any:
        found = _storage(identity)
        if isinstance(found, Storage):
            if len(identity) > 5 and identity[5] is not None:
                raise WeightsError("has views of storages, as PyTorch wrote them before 0.2")
            storages[found.key] = found
        return found

    magic = interpret(stream, _call, persistent)
    if magic != _MAGIC:  # a bare pickle, which has no storages
        return magic, lambda storage: np.empty(0, np.uint8)
    interpret(stream, _call, persistent)  # version of the protocol
    _check_order(interpret(stream, _call, persistent)["little_endian"])
    content = interpret(stream, _call, persistent)
    keys = interpret(stream, _call, persistent)
    starts, position = dict[str, int](), stream.tell()
    for key in keys:
        file.seek(position)
        (count,) = struct.unpack("<q", file.read(8))
        if count != storages[key].count:
            raise WeightsError(
                f"storage '{key}' has {count} elements, expected {storages[key].count}"
            )
        starts[key] = position + 8
        position += 8 + storages[key].size

    def bytes_of(storage: Storage) -> np.ndarray:
        file.seek(starts[storage.key])
        return read_exactly(file, storage.size)

    return content, bytes_of


def load(views: Mapping[str, TensorView], bytes_of: Callable[[Storage], np.ndarray]) -> Arrays:
    """Reads tensors, each storage once; tensors that share a storage share memory.

    Args:
        bytes_of: as `open_zip` and `open_legacy` return it.

    Raises:
        WeightsError: NumPy lacks a tensor's type; and other exceptions of broken data.
    """
    storages: dict[tuple[Storage, str], np.ndarray] = {}
    arrays = {}
    for name, view in views.items():
        key = view.storage, view.dtype
        if key not in storages:
            storages[key] = decode(bytes_of(view.storage), view.dtype)
        numbers = storages[key][view.offset :]
        strides = [numbers.itemsize * stride for stride in view.strides]
        array = np.lib.stride_tricks.as_strided(numbers, view.shape, strides)
        arrays[name] = np.ascontiguousarray(array).reshape(view.shape)
    return arrays


def _storage(identity: Any) -> Storage | Opaque:
    """What a persistent id stands for: `("storage", type, key, device, elements, …)`."""
    match identity:
        case ("storage", Global(_, kind), str(key), _, int(count), *_) if count >= 0:
            return Storage(key, _STORAGES.get(kind, kind), count)
    return Opaque()


def _call(function: Global, arguments: tuple[Any, ...]) -> Any:
    """Makes a dictionary or a `TensorView` of what is known to be one, `Opaque` of all else."""
    match function, arguments:
        case ("collections", "OrderedDict"), (list(pairs),):  # of Python 2
            return {pair[0]: pair[1] for pair in pairs if isinstance(pair[0], str)}
        case ("collections", "OrderedDict" | "defaultdict"), _:
            return {}
        case ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state"), (data, *_):
            return data
        case (
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2"),
            (Storage() as storage, offset, shape, strides, *_),
        ):
            return _view(storage, offset, shape, strides, storage.dtype)
        case (
            ("torch._utils", "_rebuild_tensor_v3"),
            (Storage() as storage, offset, shape, strides, _, _, Global("torch", dtype), *_),
        ):
            return _view(storage, offset, shape, strides, dtype)
    return Opaque(function)


def _check_order(little_endian: bool) -> None:
    if not little_endian:
        raise WeightsError("holds big-endian numbers, expected little-endian ones")


def _view(storage: Storage, offset: Any, shape: Any, strides: Any, dtype: str) -> TensorView:
    """A tensor that lies in its storage.

    Raises:
        ValueError: it does not.
    """
    numbers = (offset, *shape, *strides)
    sound = all(type(n) is int and 0 <= n < 1 << 48 for n in numbers)
    # NumPy 1 ends the process where `as_strided` gets more dimensions than it supports.
    if not sound or len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
        raise ValueError("a tensor has no valid shape and strides")
    last = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    size = ITEM_SIZES.get(dtype, 1)
    if 0 not in shape and (offset + last + 1) * size > storage.size:
        raise ValueError(f"a tensor is larger than its storage of {storage.count} elements")
    return TensorView(storage, offset, tuple(shape), tuple(strides), dtype)


class _LimitedReads:
    """A file that refuses to read more at once than a sound archive needs.

    The directory of an archive is read at once, whatever size the archive claims for it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > MAX_PICKLE:
            raise WeightsError(f"has a directory of {size} bytes, expected at most {MAX_PICKLE}")
        return self._file.read(size)
