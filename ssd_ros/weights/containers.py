# SPDX-License-Identifier: Apache-2.0
"""Files that hold tensors: safetensors, and PyTorch's. No code in them runs.

Which network the tensors are of is none of this module's business; see `layouts`.
"""

from __future__ import annotations

import math
import os
import stat
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ssd_ros.model.layers import Shape
from ssd_ros.weights import pytorch_file, safetensors_file, state_dicts
from ssd_ros.weights.arrays import ITEM_SIZES, Arrays
from ssd_ros.weights.weights import WeightsError

MAX_SIZE = 1 << 31  # bytes of a file and of all its tensors; SSD300 with VGG16 has 136 MB
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
    """A file's header, and a function that reads its tensors; to be called once, at most.

    The kind is recognised by the first bytes, not by the name. The file stays open until the
    function has read it or is forgotten, so that header and tensors are those of one file. It is
    read, not mapped: a mapped file that is overwritten meanwhile would kill the process.

    Raises:
        WeightsError: the file cannot be read, is damaged, or holds no tensors; the function may
            raise it, too.
    """
    file, size = _open_regular(path)
    try:
        with _reading():
            header, read = _read_header(file, size)
        _check_size(header)
    except BaseException:
        file.close()
        raise

    def load() -> Arrays:
        with file, _reading():
            return read()

    weakref.finalize(load, file.close)
    return header, load


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


def _open_regular(path: Path) -> tuple[BinaryIO, int]:
    """An open file and its size; a pipe or a device, which may never end, is not read."""
    with _reading():
        _check_regular(os.stat(path))  # opening some devices has effects
        # Non-blocking, should it be replaced by a pipe just now.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    try:
        status = os.fstat(file.fileno())
        _check_regular(status)
    except BaseException:
        file.close()
        raise
    return file, status.st_size


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise WeightsError("is not a regular file")
    if not status.st_size:
        raise WeightsError("is empty")
    if status.st_size > MAX_SIZE:
        raise WeightsError(f"has {status.st_size} bytes, expected at most {MAX_SIZE}")


def _read_header(file: BinaryIO, size: int) -> tuple[Header, Callable[[], Arrays]]:
    """A file's header, and a function that reads its tensors while the file is open."""
    start = file.read(9)
    file.seek(0)
    # First, because its first bytes are a length, and may be those of a pickle or a zip archive.
    if start[8:] == b"{":
        entries, metadata = safetensors_file.read_header(file, size)
        entries = state_dicts.without_prefix(entries)
        header = Header(
            {key: entry.shape for key, entry in entries.items()},
            {key: entry.dtype for key, entry in entries.items()},
            metadata,
        )
        return header, partial(safetensors_file.load, file, entries)
    if not start.startswith((pytorch_file.ZIP, b"\x80")):
        raise WeightsError("is neither a .safetensors file nor a PyTorch state dict")
    zipped = start.startswith(pytorch_file.ZIP)
    open_content = pytorch_file.open_zip if zipped else pytorch_file.open_legacy
    content, bytes_of = open_content(file)
    views = state_dicts.find(content)
    header = Header(
        {key: view.shape for key, view in views.items()},
        {key: view.dtype for key, view in views.items()},
    )
    return header, partial(pytorch_file.load, views, bytes_of)


@contextmanager
def _reading() -> Iterator[None]:
    """Any failure as a WeightsError: of broken data, readers raise nearly anything."""
    try:
        yield
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror}") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise WeightsError(f"is damaged or truncated ({reason:.200})") from None


def _check_size(header: Header) -> None:
    """Refuses tensors that are much larger than what they are views of."""
    size = sum(
        math.prod(shape) * ITEM_SIZES.get(header.dtypes[key], 1)
        for key, shape in header.shapes.items()
    )
    if size > MAX_SIZE:
        raise WeightsError(f"has tensors of {size} bytes, expected at most {MAX_SIZE}")
