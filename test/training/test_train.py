# SPDX-License-Identifier: Apache-2.0
"""A training can be stopped, killed, resumed and distributed, and ends with the same weights."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from made_dataset import make_set
from made_weights import with_input_of_320_pixels
from safetensors.torch import load_file

from ssd_ros.model.config import PAPER_VOC
from ssd_ros.model.ssd import SSD
from ssd_ros.weights import reader
from ssd_ros.weights.native import write
from ssd_ros.weights.weights import Weights
from training import evaluate, report, train
from training.trainer import batch_norm, optimizer, options, pretrained, progress, run_files
from training.trainer.ema import create_ema, restore_ema

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("one_thread")]
HANGS = 300  # seconds until a process that does not end fails the test

# Small enough for a test: seconds on one core.
QUICK = "--width 0.0625 --iterations 6 --batch 4 --workers 0 --precision fp32 --device cpu".split()
QUICK += "--val-sets none --ema 0.9 --optimizer adamw --checkpoint-every 2".split()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("data") / "set", images=12)


@pytest.fixture(scope="module")
def undisturbed(root, tmp_path_factory):
    """The folder of a run of six iterations that nobody stopped."""
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert run(root, out) == 0
    return out


def run(root, out, *more):
    return train.main(["--data", str(root), "--out", str(out), *QUICK, *more])


def command(root, out, *more):
    return [sys.executable, "-m", "training.train", "--data", root, "--out", out, *QUICK, *more]


def start(arguments, **environment):
    """The command as a process of its own, with as many threads as this one."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), **environment}
    return subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)


def same_tensors(a, b):
    a, b = load_file(a), load_file(b)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def lines(out):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run_files.read_metrics(out)]


def test_a_log_file_gets_a_line_a_minute(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    with progress.LogLines(total=40, initial=8, unit="img", desc="run") as bar:
        bar.set_postfix(refresh=False, loss="3.2")
        bar.update(2)
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line.split()[2] for line in lines] == ["8/40", "10/40", "10/40"]
    assert "loss=3.2" in lines[1]


# --- stop and go -------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL: nothing may run after it that a kill would not let run."""


@pytest.mark.parametrize("at", [1, 4, 5])
def test_a_killed_and_resumed_run_ends_with_the_very_weights(
    root, undisturbed, tmp_path, monkeypatch, at
):
    step = train.Trainer.step

    def step_or_die(self, *arguments, **keywords):
        if self.progress.iteration == at:
            raise Killed
        return step(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, "step", step_or_die)
        with pytest.raises(Killed):
            run(root, tmp_path / "run")
    torch.rand(7)  # another process would not have the same generator, either
    assert run(root, tmp_path / "run", "--resume") == 0
    assert same_tensors(tmp_path / "run" / "last.safetensors", undisturbed / "last.safetensors")
    assert lines(tmp_path / "run") == lines(undisturbed)


# Sends SIGKILL to itself at the n-th call of a function.
KILLED_AT = """
import os, pkgutil, signal, sys
from training import train

owner, name, calls = pkgutil.resolve_name(sys.argv[1]), sys.argv[2], int(sys.argv[3])
function = getattr(owner, name)

def call_or_die(*arguments, **keywords):
    global calls
    calls -= 1
    if not calls:
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*arguments, **keywords)

setattr(owner, name, call_or_die)
sys.exit(train.main(sys.argv[4:]))
"""


def test_sigkills_while_a_run_writes_its_files_lose_nothing(root, undisturbed, tmp_path):
    out = tmp_path / "run"
    resume: tuple[str, ...] = ()  # there is nothing yet
    for owner, name, call in [
        ("os", "fsync", 2),  # a file is half written
        ("os", "replace", 3),  # a file is whole, but has no name yet
        ("training.trainer.run_files:Metrics", "add", 1),
    ]:
        arguments = command(root, out, *resume)[3:]
        process = start([sys.executable, "-c", KILLED_AT, owner, name, str(call), *arguments])
        _, errors = process.communicate(timeout=HANGS)
        assert process.returncode == -signal.SIGKILL, errors
        resume = ("--resume",)
    assert run(root, out, "--resume") == 0
    assert same_tensors(out / "last.safetensors", undisturbed / "last.safetensors")
    assert lines(out) == lines(undisturbed)


def test_sigterm_writes_a_checkpoint_and_says_how_to_go_on(
    root, undisturbed, tmp_path, monkeypatch, capsys
):
    out, step = tmp_path / "run", train.Trainer.step

    def step_with_a_signal(self, *arguments, **keywords):
        if self.progress.iteration == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, "step", step_with_a_signal)
        assert run(root, out) == 128 + signal.SIGTERM
    assert "stopped by signal 15; continue with --resume" in capsys.readouterr().err
    assert reader.read(out / "last.safetensors").training["iterations"] == 3
    assert run(root, out, "--resume") == 0
    assert same_tensors(out / "last.safetensors", undisturbed / "last.safetensors")
    sessions = run_files.read_run_info(out)["sessions"]
    assert sessions[0]["iteration"] == 0
    assert 0 < sessions[1]["iteration"] < 6
    assert sessions[1]["command"].endswith("--resume")


def test_a_run_is_neither_overwritten_nor_resumed_as_another(root, undisturbed, capsys):
    assert run(root, undisturbed) == 1
    assert "holds a run; continue with --resume" in capsys.readouterr().err
    assert run(root, undisturbed, "--resume", "--lr", "0.5") == 1
    assert "--lr 0.5 differs from the run to resume, which has 0.001" in capsys.readouterr().err


def test_resume_needs_no_option_but_the_folder(undisturbed):
    before = (undisturbed / "last.safetensors").read_bytes()
    assert train.main(["--out", str(undisturbed), "--resume"]) == 0
    assert (undisturbed / "last.safetensors").read_bytes() == before


def test_a_metric_line_that_was_cut_short_is_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"iteration": 1}\n{"iteration": 3}\n{"iter')
    metrics = run_files.Metrics(tmp_path, 2, tensorboard=False)
    metrics.add(3, loss=1.0)
    assert run_files.read_metrics(tmp_path) == [{"iteration": 1}, {"iteration": 3, "loss": 1.0}]


# --- the same result by other ways -------------------------------------------------------------

# SGD: AdamW's first steps are as long where the gradient is mere rounding.
LONGER = "--iterations 20 --optimizer sgd --lr 1e-3 --augment none".split()


@pytest.fixture(scope="module")
def longer(root, tmp_path_factory):
    """The folder of a run of twenty iterations, two lines of metrics, that nobody stopped."""
    out = tmp_path_factory.mktemp("runs") / "longer"
    assert run(root, out, *LONGER) == 0
    return out


def test_a_batch_in_parts_gives_the_same_weights(root, undisturbed, tmp_path):
    assert run(root, tmp_path / "run", "--accumulate", "2") == 0
    whole, parts = (load_file(out / "last.safetensors") for out in (undisturbed, tmp_path / "run"))
    losses = [[row["loss"] for row in lines(out)] for out in (undisturbed, tmp_path / "run")]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    for key in whole:  # AdamW's steps are of one size: rounding may turn some
        assert (whole[key] - parts[key]).abs().mean() < 1e-4


def test_two_processes_follow_one_with_twice_the_batch(root, longer, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc_per_node", "2"]
    arguments = command(root, tmp_path / "run", *LONGER, "--batch", "2")
    process = start(torchrun + arguments[1:])
    _, errors = process.communicate(timeout=HANGS)
    assert process.returncode == 0, errors
    losses = [[row["loss"] for row in lines(out)] for out in (longer, tmp_path / "run")]
    assert len(losses[0]) == 2
    assert losses[0][-1] < losses[0][0]
    np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=1e-3)
    np.testing.assert_allclose(*losses, rtol=5e-3)  # rounding grows from step to step


# A validation that takes longer than the backend's timeout.
LONG_VALIDATION = """
import sys, time
from datetime import timedelta
import torch.distributed as dist
from training.trainer.distributed import Processes

processes = Processes("cpu")
dist.distributed_c10d._set_pg_timeout(timedelta(seconds=1))
if processes.is_main:
    time.sleep(4)
processes.wait()
assert processes.sum(1, processes.rank) == [2, 1]
assert processes.any(processes.rank == 1)
assert not processes.any(False)
processes.close()
"""


def test_processes_wait_longer_than_the_backend_s_timeout(tmp_path):
    (tmp_path / "long_validation.py").write_text(LONG_VALIDATION)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    arguments = [*torchrun, "--nproc_per_node", "2", str(tmp_path / "long_validation.py")]
    process = start(arguments, PYTHONPATH=os.pathsep.join(sys.path))
    _, errors = process.communicate(timeout=HANGS)
    assert process.returncode == 0, errors


# --- what a run writes -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    """The folder of a run that is long enough to find something."""
    out = tmp_path_factory.mktemp("runs") / "trained"
    arguments = (
        "--batch-norm --iterations 20 --validate-every 10 --augment none --lr 5e-3 --ema 0.7"
    )
    arguments += " --val-sets trainval --warmup 2 --store fp16 --schedule cosine"
    assert run(root, out, *arguments.split()) == 0
    return out


def test_the_loss_falls_and_the_best_weights_are_kept(trained):
    rows = run_files.read_metrics(trained)
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == 2
    assert losses[1] < losses[0] / 1.5
    maps = {row["iteration"]: row["map_voc2007"] for row in rows if "map_voc2007" in row}
    assert list(maps) == [10, 20]
    best = reader.read(trained / "best.safetensors")
    assert best.training["map_voc2007"] == max(maps.values())
    assert best.training["iterations"] in maps
    assert best.classes == ("disc", "square")
    assert best.config.width == 0.0625
    assert best.tensors["conv1.1.weight"].dtype == np.float16


def test_validation_equals_evaluation_of_the_written_weights(root, trained, tmp_path):
    file, target = trained / "last.safetensors", tmp_path / "metrics.json"
    given = ["--data", str(root), "--sets", "trainval", "--device", "cpu", "--json", str(target)]
    assert evaluate.main([str(file), *given]) == 0
    result = json.loads(target.read_text())
    noted = reader.read(file).training
    # Noted before the tensors were rounded to half precision.
    assert result["map_voc2007"] == pytest.approx(noted["map_voc2007"], abs=0.02)
    assert result["map_voc2007"] > 0
    assert result["images"] == 6


def test_the_report_shows_the_run_and_needs_no_network(root, trained, tmp_path, capsys):
    assert report.main([str(trained), "--device", "cpu", "--out", str(tmp_path / "r.html")]) == 0
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    result = reader.read(trained / "best.safetensors").training["map_voc2007"]
    shown = float(re.search(r"mAP \(VOC2007\) ([\d.]+)<", text)[1])
    assert shown == pytest.approx(result, abs=0.02)  # noted before rounding to half precision
    assert text.count("<svg") == 5
    images = re.findall(r"data:image/jpeg;base64,([^\"]+)", text)
    assert len(images) == 6
    for image in images:
        data = np.frombuffer(base64.b64decode(image), np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == (90, 120, 3)
    assert re.search(r"\d true positive, \d false positive, \d missed", text)
    assert all(word in text for word in ("disc", "square", "--data", "torchvision", "0.7"))
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert report.main([str(tmp_path)]) == 1
    assert "is not the folder of a run: it has no run.json" in capsys.readouterr().err


def test_frozen_layers_stay_and_others_move(root, undisturbed, tmp_path):
    source = str(undisturbed / "last.safetensors")
    out = tmp_path / "run"
    assert run(root, out, "--init", source, "--freeze", "conv1,conv2", "--iterations", "2") == 0
    before, after = load_file(source), load_file(out / "last.safetensors")
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert not any(key.startswith(("conv1.", "conv2.")) for key in moved)
    assert moved >= {"conv3.1.weight", "conv7.0.weight", "scores.0.weight", "offsets.1.weight"}


def test_the_input_size_is_that_of_the_pretrained_network(root, tmp_path):
    model = SSD(2, config=with_input_of_320_pixels(PAPER_VOC.with_width(0.0625)))
    write(
        tmp_path / "320.safetensors", Weights(model.state_dict(), ("disc", "square"), model.config)
    )
    given = ["--init", str(tmp_path / "320.safetensors"), "--val-sets", "test", "--iterations", "1"]
    assert run(root, tmp_path / "run", *given) == 0
    assert reader.read(tmp_path / "run" / "last.safetensors").config == model.config


def test_a_loss_that_is_not_finite_stops_the_run_with_the_images(root, tmp_path, capsys):
    broken = SSD(2, 0.0625)
    with torch.no_grad():
        broken.conv3["1"].weight.fill_(float("inf"))
    source = pretrained.Pretrained(dict(broken.state_dict()), broken.config, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained, "read", lambda _: source)
        assert run(root, tmp_path / "run", "--init", "broken") == 1
    message = capsys.readouterr().err
    assert "iteration 0: the loss is not finite" in message
    assert message.count(str(Path("JPEGImages"))) == 4


def test_weights_that_the_detector_could_not_read_are_not_written(
    root, undisturbed, tmp_path, capsys
):
    weights, out = reader.read(undisturbed / "last.safetensors"), tmp_path / "run"
    weights.tensors["conv1.1.bias"][0] = 1e5  # more than float16 holds
    write(tmp_path / "large.safetensors", weights)
    out.mkdir()
    for name in (run_files.LAST, run_files.BEST):
        shutil.copy(undisturbed / name, out)
    start = ["--init", str(tmp_path / "large.safetensors"), "--init-layers", "conv1"]
    start += ["--freeze", "conv1", "--iterations", "1"]
    assert run(root, out, *start, "--store", "fp16") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: weights file '{out / run_files.LAST}' not written: ")
    assert "tensor 'conv1.1.bias' holds NaN or infinite values" in error
    for name in (run_files.LAST, run_files.BEST):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes()
    assert not list(out.glob(".*"))  # no temporary file
    assert run(root, out, *start) == 0  # float32 holds it
    assert reader.read(out / run_files.LAST).tensors["conv1.1.bias"][0] == 1e5


@pytest.mark.parametrize("workers", ["0", "1"])
def test_an_image_that_cannot_be_read_is_named(tmp_path, capsys, workers):
    root = make_set(tmp_path / "set", images=4)
    broken = root / "JPEGImages" / "0001.png"
    broken.write_bytes(broken.read_bytes()[:40])
    assert run(root, tmp_path / "run", "--workers", workers) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"error: '{broken}' is not an image (40 bytes)"


def test_weights_that_cannot_be_downloaded_are_told_with_what_to_do(
    root, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    assert run(root, tmp_path / "run", "--init", "vgg16") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: downloading https://download.pytorch.org/models/vgg16-")
    assert error.endswith(
        f"put that file into {tmp_path / 'hub/checkpoints'}, or give --init a file"
    )


def test_a_mistaken_option_is_named(root, undisturbed, tmp_path, capsys):
    init = ["--init", str(undisturbed / "last.safetensors")]
    all_layers = ",".join(name for name, _ in SSD(2, 0.0625).named_children())
    for arguments, message in [
        (["--freeze", "conv1"], "--freeze conv1 needs --init: random layers must be trained"),
        ([*init, "--freeze", "conv12"], "unknown layer 'conv12'; layers: conv1, conv2"),
        (["--batch", "0"], "--batch must be at least 1, got 0"),
        (["--accumulate", "3"], "--accumulate 3 must divide --batch 4"),
        (["--classes", "dics"], "--classes names 'dics', of which the training images have no"),
        ([*init, "--freeze", all_layers], "--freeze leaves nothing to train"),
    ]:
        assert run(root, tmp_path / "run", *arguments) == 1
        assert message in capsys.readouterr().err


# --- parts -------------------------------------------------------------------------------------


def test_folded_batch_normalisation_computes_the_same():
    torch.manual_seed(0)
    model = SSD(2, 0.125)
    keys = set(model.state_dict())
    batch_norm.add(model)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.3, 3)
            torch.nn.init.uniform_(module.weight, 0.3, 2)
            torch.nn.init.normal_(module.bias)
    plain = SSD(2, 0.125)
    folded = batch_norm.fold(model.state_dict())
    assert set(folded) == keys
    plain.load_state_dict(folded)
    x = torch.randn(1, 3, 300, 300)
    with torch.inference_mode():
        for ours, expected in zip(plain.eval()(x), model.eval()(x), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)


def test_vgg16_features_start_the_base_network_with_imagenet_s_normalisation(tmp_path):
    from safetensors.torch import save_file
    from torchvision.models import vgg16

    with torch.device("meta"):
        shapes = {k: v.shape for k, v in vgg16().features.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    features = {f"features.{k}": torch.randn(s, generator=generator) for k, s in shapes.items()}
    save_file(features, tmp_path / "vgg.safetensors")
    source = pretrained.read(str(tmp_path / "vgg.safetensors"))
    assert source.config.mean == pretrained.IMAGENET_MEAN
    assert source.config.feature_maps == PAPER_VOC.feature_maps
    model = SSD(3)
    assert pretrained.apply(model, source, ["a", "b", "c"]) == 26
    assert torch.equal(model.conv5["3"].weight, features["features.28.weight"])
    assert torch.equal(model.conv1["1"].bias, features["features.0.bias"])
    with pytest.raises(ValueError, match=r"is --width 0\.5 the width of that file"):
        pretrained.apply(SSD(3, 0.5), source, ["a", "b", "c"])
    del features["features.28.bias"]
    save_file(features, tmp_path / "vgg.safetensors")
    with pytest.raises(ValueError, match=r"vgg\.safetensors.*no tensor 'features\.28\.bias'"):
        pretrained.read(str(tmp_path / "vgg.safetensors"))


def test_init_refuses_other_files_by_their_names(root, tmp_path, capsys):
    (tmp_path / "text.pth").write_text("not found")
    for name, reason in {
        "text.pth": "is neither a .safetensors",
        "none.pth": "No such file",
    }.items():
        assert run(root, tmp_path / "run", "--init", str(tmp_path / name)) == 1
        error = capsys.readouterr().err
        assert f"error: weights file '{tmp_path / name}': " in error
        assert reason in error


def test_only_chosen_layers_are_taken_over():
    torch.manual_seed(0)
    other, model = SSD(2, 0.125), SSD(3, 0.125)
    source = pretrained.Pretrained(dict(other.state_dict()), PAPER_VOC, ("a", "b"))
    before = model.conv3["1"].weight.clone()
    pretrained.apply(model, source, ["a", "b", "c"], ["conv1", "conv2"])
    assert torch.equal(model.conv2["2"].weight, other.conv2["2"].weight)
    assert torch.equal(model.conv3["1"].weight, before)
    # Scores of other classes mean other things; everything else fits.
    pretrained.apply(model, source, ["a", "b", "c"])
    assert torch.equal(model.offsets[0].weight, other.offsets[0].weight)


def test_the_average_forgets_the_start_and_follows_the_weights():
    layer = torch.nn.BatchNorm1d(2)
    average = create_ema(layer, 0.99)
    with torch.no_grad():
        layer.weight.fill_(5)
    layer.num_batches_tracked += 3
    average.update_parameters(layer)  # the first of a decay of 2 / 11
    assert average.module.weight.tolist() == pytest.approx([1 * 2 / 11 + 5 * 9 / 11] * 2)
    for _ in range(299):
        average.update_parameters(layer)
    assert average.module.weight.tolist() == pytest.approx([5, 5], rel=1e-2)
    assert average.module.num_batches_tracked == 3
    none = create_ema(layer, 0.0)
    with torch.no_grad():
        layer.weight.fill_(7)
    none.update_parameters(layer)
    assert none.module.weight.tolist() == [7, 7]


@pytest.mark.parametrize("old", [False, True])
def test_an_average_continues_from_checkpoints_new_and_old(old):
    layer = torch.nn.BatchNorm1d(2)
    average, resumed = create_ema(layer, 0.9), create_ema(layer, 0.9)
    for value in (5, 6):
        layer.weight.data.fill_(value)
        average.update_parameters(layer)
    state = average.state_dict()
    if old:  # as checkpoints held it before AveragedModel
        tensors = {key: value.clone() for key, value in average.module.state_dict().items()}
        state = {"updates": 2, "tensors": tensors}
    restore_ema(resumed, state)
    layer.weight.data.fill_(7)
    average.update_parameters(layer)
    resumed.update_parameters(layer)
    assert torch.equal(resumed.module.weight, average.module.weight)


def test_the_paper_s_schedule_and_the_warm_up():
    paper = options.Options(data="d", out="o")
    rates = [optimizer.lr_factor(i, paper) for i in (0, 499, 79_999, 80_000, 99_999, 100_000)]
    assert rates == pytest.approx([1 / 500, 1, 1, 0.1, 0.1, 0.01])
    short = options.Options(data="d", out="o", iterations=50, schedule="cosine")
    assert [optimizer.lr_factor(i, short) for i in (0, 5)] == pytest.approx([1 / 6, 1])
    assert optimizer.lr_factor(49, short) < 0.01
