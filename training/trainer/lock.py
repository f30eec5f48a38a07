# SPDX-License-Identifier: Apache-2.0
"""One training at a time in the folder of a run."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ssd_ros import atomic


@contextlib.contextmanager
def locked(out: Path, enabled: bool = True) -> Iterator[None]:
    """A context in which no other training writes into a folder, which is made if it is missing.

    Temporary files that a killed training left there are removed. The lock ends with the process,
    however that ends. File systems that cannot lock a folder (NFS) are not protected.

    Args:
        out: folder of the run.
        enabled: False in processes that write no files.

    Raises:
        ValueError: another training has locked the folder.
    """
    if not enabled:
        yield
        return
    atomic.make_folder(out)
    folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                raise ValueError(f"another training is running in '{out}'") from None
        atomic.remove_unfinished(out)
        yield
    finally:
        os.close(folder)
