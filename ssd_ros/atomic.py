# SPDX-License-Identifier: Apache-2.0
"""Files that are written completely or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write(path: Path, data: bytes, check: Callable[[Path], object] | None = None) -> None:
    """Writes a file under a temporary name and renames it; makes missing folders.

    Args:
        path: the file; one that exists is replaced.
        data: its content.
        check: called with the temporary file; where it raises, that file is deleted and an
            existing one stays as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
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


# mkstemp makes files that only their owner can read; the umask can only be read by setting it.
_UMASK = os.umask(0)
os.umask(_UMASK)
