# SPDX-License-Identifier: Apache-2.0
"""However a training with data loading processes ends, it ends at once and leaves none of them."""

import contextlib
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from made_dataset import make_set
from processes import Process
from safetensors.numpy import load_file
from waiting import wait_for

from training import train
from training.trainer import run_files

pytestmark = pytest.mark.training

OPTIONS = "--width 0.0625 --iterations 100000 --batch 2 --workers 1 --precision fp32 --device cpu"
OPTIONS += " --val-sets none --checkpoint-every 1"

# A training in which the second step meets an error that nobody expected.
FAILING = """
import sys
from training import train

step = train.Trainer.step

def failing_step(self, parts):
    if self.progress.iteration == 1:
        raise ZeroDivisionError("unexpected")
    return step(self, parts)

train.Trainer.step = failing_step
sys.exit(train.main(sys.argv[1:]))
"""

# A program that forgets its stream of batches.
FORGETTING = """
import sys
from pathlib import Path
from training.data import batches, samples, voc
from training.data.augment import Augment
from training.data.dataset import DetectionDataset

found, _ = samples.load(voc.find_images(Path(sys.argv[1]), "trainval"))
dataset = DetectionDataset(found, Augment("none", (0, 0, 0), 300), seed=0)
stream = batches.stream(dataset, 0, 100, 2, workers=1)
next(stream)
print("has a batch")
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture
def start(tmp_path):
    started = []

    def start_python(*arguments):
        command = [sys.executable, *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        started.append(Process(command, tmp_path / "log.txt", env=environment))
        return started[-1]

    yield start_python
    for process in started:
        wait_for(lambda pid=process.pid: not members_of(pid), "the end of all processes")


def training(root, out):
    return ["--data", root, "--out", out, *OPTIONS.split()]


def members_of(session):
    """Process ids of a session: a process that called setsid, and its descendants."""
    members = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            members.append(int(path.parent.name))
    return members


def workers_of(process):
    def is_worker(pid):
        try:
            return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    return [pid for pid in members_of(process.pid) if is_worker(pid)]


def wait_for_checkpoint(process, out):
    path = out / run_files.CHECKPOINT
    wait_for(lambda: path.exists() or not process.alive, "a checkpoint")
    assert process.alive, process.log


def test_a_killed_worker_ends_the_training_with_a_message_and_the_last_checkpoint(
    root, tmp_path, start
):
    process = start("-m", "training.train", *training(root, tmp_path / "run"))
    wait_for_checkpoint(process, tmp_path / "run")
    killed = workers_of(process)[0]
    os.kill(killed, signal.SIGKILL)
    assert process.exit_code() == 1
    last = process.log.splitlines()[-1]
    assert last.startswith(f"error: data loading process {killed} was killed by signal 9; continue")
    assert run_files.read_checkpoint(tmp_path / "run")["progress"]["iteration"] >= 1


def test_an_error_of_the_trainer_is_not_held_up_by_its_workers(root, tmp_path, start):
    process = start("-c", FAILING, *training(root, tmp_path / "run"))
    assert process.exit_code() == 1
    assert "ZeroDivisionError: unexpected" in process.log
    assert run_files.read_checkpoint(tmp_path / "run")["progress"]["iteration"] == 1


def test_too_little_memory_is_an_error_with_what_to_change(root, tmp_path, capsys, monkeypatch):
    def step(self, parts):
        torch.empty(2**60)

    monkeypatch.setattr(train.Trainer, "step", step)
    arguments = training(root, tmp_path / "run") + ["--workers", "0"]
    assert train.main(list(map(str, arguments))) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: out of memory (")
    assert "smaller --batch" in error


def test_a_program_ends_that_has_not_closed_its_stream(root, start):
    process = start("-c", FORGETTING, root)
    assert process.exit_code() == 0, process.log
    assert "has a batch" in process.log


def test_a_signal_to_all_processes_still_writes_a_checkpoint(root, tmp_path, start):
    process = start("-m", "training.train", *training(root, tmp_path / "run"))
    wait_for_checkpoint(process, tmp_path / "run")
    for worker in workers_of(process):
        os.kill(worker, signal.SIGINT)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.exit_code() == 128 + signal.SIGTERM, process.log
    assert "stopped by signal 15; continue with --resume" in process.log
    assert "Traceback" not in process.log
    assert run_files.read_checkpoint(tmp_path / "run") is not None


@pytest.mark.endurance
@pytest.mark.timeout(0)
def test_sigkills_at_random_moments_lose_nothing(root, tmp_path, start, request):
    """Of the trainer, of its worker, or of both; `--kills` says how many."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance, kills = random.Random(seed), request.config.getoption("--kills")
    short = [*OPTIONS.split(), "--iterations", "20", "--augment", "none", "--seed", "1"]
    undisturbed = tmp_path / "undisturbed"
    process = start("-m", "training.train", "--data", root, "--out", undisturbed, *short)
    assert process.exit_code() == 0, process.log
    out = tmp_path / "run-0"
    for kill in range(kills + 1):
        resume = ["--resume"] if (out / run_files.RUN_INFO).exists() else []
        arguments = ["--data", root, "--out", out, *short, *resume]
        process = start("-m", "training.train", *arguments)
        if kill < kills:
            kill_something(process, out, chance)
        code = process.exit_code()
        assert code in (0, 1, -signal.SIGKILL), process.log
        assert code != 1 or "data loading process" in process.log, process.log
        if code == 0:  # it was faster than the kill; another run takes the next ones
            ours, theirs = (load_file(o / run_files.LAST) for o in (out, undisturbed))
            assert ours.keys() == theirs.keys()
            assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
            assert metrics_of(out) == metrics_of(undisturbed)
            names = {path.name for path in out.iterdir()}
            assert names == {path.name for path in undisturbed.iterdir()}
            out = tmp_path / f"run-{kill + 1}"
    assert code == 0, process.log


def kill_something(process, out, chance):
    """After a random part of the start, or of the work after the first checkpoint."""
    if chance.random() < 0.8:
        before = modified(out / run_files.CHECKPOINT)
        path = out / run_files.CHECKPOINT
        wait_for(lambda: modified(path) != before or not process.alive, "a checkpoint")
        time.sleep(chance.uniform(0, 1))
    else:
        time.sleep(chance.uniform(0, 8))
    targets = [process.pid, *workers_of(process)]
    for pid in chance.choice([targets[:1], targets[1:], targets]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def modified(path):
    return path.stat().st_mtime_ns if path.exists() else 0


def metrics_of(out):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run_files.read_metrics(out)]
