# SPDX-License-Identifier: Apache-2.0
"""Files are complete or not there, and nothing but a regular file is ever replaced."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from ssd_ros import atomic

full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@full
def test_a_device_is_written_to_and_not_replaced():
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        atomic.write(Path("/dev/full"), b"data")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
    atomic.write(Path("/dev/null"), b"data")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OSError, match="'/dev/null' is not a regular file"):
        atomic.write(Path("/dev/null"), b"data", check=print)


def test_a_pipe_is_written_to(tmp_path):
    path, received = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()), daemon=True)
    reader.start()
    atomic.write(path, b"data")
    reader.join()
    assert received == [b"data"]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "link").symlink_to("target")
    for data in (b"one", b"two"):  # the target is missing, then there
        atomic.write(tmp_path / "link", data)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "target").read_bytes() == data


def test_errors_name_the_file_and_leave_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    atomic.write(path, b"old")

    def no_space(_handle):  # a full file system, which a test cannot make
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'") as caught:
        atomic.write(path, b"new")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(IsADirectoryError, match=f"'{tmp_path}' is a folder"):
        atomic.write(tmp_path, b"new")


def test_whether_a_file_can_be_written_is_known_before_and_leaves_nothing(tmp_path):
    atomic.check_writable(tmp_path / "new" / "folder" / "a.txt")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "file" / "a.txt", Path("/proc/a.txt")):
        with pytest.raises(OSError, match=str(path)):
            atomic.check_writable(path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    if Path("/dev/full").exists():
        atomic.check_writable(Path("/dev/full"))


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    handle, _ = atomic._temporary(tmp_path / "checkpoint.pt")  # it was killed here
    os.close(handle)
    for name in (".hidden", "a.part"):
        (tmp_path / name).write_bytes(b"")
    atomic.remove_unfinished(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {".hidden", "a.part"}
