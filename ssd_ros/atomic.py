# SPDX-License-Identifier: Apache-2.0
"""Files that are written completely or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

STANDARD_OUTPUT = Path("-")
_SUFFIX = ".part"  # of temporary files


def write(path: Path, data: bytes, check: Callable[[Path], object] | None = None) -> None:
    """Writes a file under a temporary name and renames it; makes missing folders.

    A symbolic link is followed. A device or a pipe is written to, never replaced.

    Args:
        path: the file; one that exists is replaced. STANDARD_OUTPUT is no file.
        data: its content.
        check: called with the temporary file; where it raises, that file is deleted and an
            existing one stays as it is.

    Raises:
        OSError: the file cannot be written; it names the file.
    """
    if path == STANDARD_OUTPUT:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    with errors_name(path):
        path = path.resolve() if path.is_symlink() and _is_regular(path) else path
        if not _is_regular(path):
            if check is not None:
                raise OSError(f"'{path}' is not a regular file, which could be checked")
            with path.open("wb", buffering=0) as device:
                device.write(data)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = _temporary(path)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if check is not None:
                check(Path(part))
            os.chmod(part, 0o666 & ~_UMASK)
            os.replace(part, path)
        except BaseException:
            os.unlink(part)
            raise


def check_writable(path: Path) -> None:
    """Checks that `write` can make this file, except for the space on the disk.

    Raises:
        OSError: it cannot; the error names the file.
    """
    if path == STANDARD_OUTPUT:
        return
    with errors_name(path):
        if not _is_regular(path):
            if not os.access(path, os.W_OK):
                raise PermissionError(f"no permission to write to '{path}'")
            return
        path = path.resolve()
        made = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = _temporary(path)
        os.close(handle)
        os.unlink(part)
        for folder in made:
            folder.rmdir()


def make_folder(folder: Path) -> None:
    """Makes a folder and those that it is in, unless it exists.

    Raises:
        NotADirectoryError: a file has this name.
        OSError: it cannot be made; the error names the folder.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"'{folder}' is a file, expected a folder")
    with errors_name(folder):
        folder.mkdir(parents=True, exist_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Removes what writers in a folder left that were killed. No other may be writing there."""
    for path in folder.glob(f".*{_SUFFIX}"):
        path.unlink(missing_ok=True)


def _temporary(path: Path) -> tuple[int, str]:
    return tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_SUFFIX)


def _is_regular(path: Path) -> bool:
    """Whether a path is, or can become, a regular file.

    Raises:
        IsADirectoryError: it is a folder.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return True
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"'{path}' is a folder, expected a file")
    return stat.S_ISREG(mode)


@contextlib.contextmanager
def errors_name(path: Path) -> Iterator[None]:
    """Adds the file's name to errors of the system, which lack it or have the temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from None


# mkstemp makes files that only their owner can read; the umask can only be read by setting it.
_UMASK = os.umask(0)
os.umask(_UMASK)
