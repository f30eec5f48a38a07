# SPDX-License-Identifier: Apache-2.0
"""A pruned network computes what the whole one does where nothing of value went."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_dataset import make_set
from made_weights import with_input_of_320_pixels
from torch.utils.flop_counter import FlopCounterMode

from ssd_ros.detector import network_input
from ssd_ros.image import Image
from ssd_ros.io import image_files
from ssd_ros.model.config import PAPER_VOC, RESNET50, scaled_channels
from ssd_ros.model.layers import multiply_adds
from ssd_ros.model.ssd import SSD
from ssd_ros.weights import reader
from ssd_ros.weights.native import write
from ssd_ros.weights.weights import Weights
from training import report, slim, train
from training.data import voc
from training.slimming import (
    activations,
    channels,
    narrowing,
    prune,
    sensitivity,
    table,
    targets,
)
from training.slimming.activations import Moments
from training.trainer import run_files

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("one_thread")]
HANGS = 300  # seconds until a process that does not end fails the test

WIDTH = 0.125
QUICK = "--iterations 3 --batch 2 --workers 0 --precision fp32 --device cpu --checkpoint-every 1"
QUICK = [*QUICK.split(), "--images", "2"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("data") / "set", images=8)


@pytest.fixture(scope="module")
def files(root):
    return sorted((root / "JPEGImages").iterdir())[:2]


@pytest.fixture
def model():
    return made_model()


def made_model(width=WIDTH, **more):
    torch.manual_seed(0)
    model = SSD(2, width, **more).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("bias"):
            tensor.normal_(0.05, 0.1)
    return model


def weights_of(model, classes=("disc", "square")):
    tensors = {key: tensor.numpy().copy() for key, tensor in model.state_dict().items()}
    return Weights(tensors, classes, model.config, {"note": "made"})


def outputs(model, files):
    images = network_input([Image(image_files.read(file)) for file in files], 300)
    with torch.inference_mode():
        return model(model.normalise(torch.from_numpy(images)))


# --- channels ----------------------------------------------------------------------------------


def test_readers_are_the_next_layers_and_the_heads():
    found = channels.readers(PAPER_VOC)
    assert len(found) == 23
    assert {(r.conv, r.reads) for r in found["conv4.3"]} == {
        ("conv5.1", "conv4.pool"),
        ("scores.0", "norm4"),
        ("offsets.0", "norm4"),
    }
    assert {r.conv for r in found["conv7.0"]} == {"conv8.1", "scores.1", "offsets.1"}
    assert {r.conv for r in found["conv11.2"]} == {"scores.5", "offsets.5"}
    with pytest.raises(ValueError, match="backbone vgg16 can be pruned, this one has resnet50"):
        channels.readers(RESNET50)


@pytest.mark.parametrize("config", [PAPER_VOC, PAPER_VOC.with_width(0.25)])
def test_multiply_adds_are_those_that_pytorch_counts(config):
    with torch.device("meta"):
        network = SSD(20, config=config)
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 300, 300))
    assert 2 * multiply_adds(config, 20) == counter.get_total_flops()


def test_steps_take_the_same_share_of_the_channels_each():
    steps = channels.steps(PAPER_VOC, PAPER_VOC.with_width(0.25), 2)
    assert [step.width for step in steps] == [0.5, 0.25]
    uneven = replace(PAPER_VOC, channels=(*scaled_channels(0.5)[:-1], (8, 8)))
    assert channels.steps(PAPER_VOC, uneven, 1) == [uneven]
    steps = channels.steps(PAPER_VOC, uneven, 5)  # 256 channels to 8
    assert steps[-1] == uneven
    assert len(steps) == 5
    for before, after in zip([PAPER_VOC, *steps], steps, strict=False):
        for name, count in channels.counts(after).items():
            assert 0.4 * channels.counts(before)[name] <= count <= channels.counts(before)[name]


# --- pruning -----------------------------------------------------------------------------------


def measured(weights, files):
    return narrowing.measure(weights, files, torch.device("cpu"))


def test_all_channels_are_the_same_tensors_bit_by_bit(model, files):
    weights = weights_of(model)
    found = narrowing.narrow(measured(weights, files), weights.config)
    assert found.config == weights.config
    assert all(np.array_equal(found.tensors[k], v) for k, v in weights.tensors.items())


def test_dead_channels_go_and_nothing_changes(model, files):
    target, chance = PAPER_VOC.with_width(WIDTH / 2), np.random.default_rng(0)
    for name, count in channels.counts(target).items():
        conv = model.get_submodule(name)
        dead = chance.permutation(conv.out_channels)[count:]
        conv.weight.data[dead], conv.bias.data[dead] = 0, -1
    before, weights = outputs(model, files), weights_of(model)
    whole = measured(weights, files)
    pruned = prune.prune(weights, prune.choose(whole.importances, target))
    for ours, other in zip(outputs(pruned.model(), files), before, strict=True):
        torch.testing.assert_close(ours, other)
    restored = outputs(narrowing.narrow(whole, target).model(), files)
    for ours, other in zip(restored, before, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-3, atol=2e-3)


def test_constant_channels_go_into_biases(model, files):
    gone = [3, 7]
    conv = model.get_submodule("conv7.0")  # what reads it without padding: conv8.1
    conv.weight.data[gone], conv.bias.data[gone] = 0, 2.0  # the same everywhere
    weights = weights_of(model)
    counts = channels.counts(weights.config)
    config = channels.with_counts(weights.config, counts | {"conv7.0": conv.out_channels - 2})
    whole = measured(weights, files)
    found = whole.importances["conv7.0"]
    np.testing.assert_allclose(found[gone], 0, atol=1e-9 * found.max())
    others = np.isin(np.arange(conv.out_channels), gone, invert=True)  # of which some are dead
    whole = replace(whole, importances={**whole.importances, "conv7.0": 1.0 * others})
    keep = prune.choose(whole.importances, config)

    def compare(network):  # the heads of the two finer maps see the channels end at the border
        finer = 38 * 38 * 4 + 19 * 19 * 6
        for ours, other in zip(outputs(network, files), outputs(model, files), strict=True):
            torch.testing.assert_close(ours[:, finer:], other[:, finer:], rtol=1e-3, atol=2e-3)

    compare(narrowing.narrow(whole, config).model())
    with pytest.raises(AssertionError):
        compare(prune.prune(weights, keep).model())


def test_what_is_left_has_the_moments_of_the_whole(model, files):
    whole, config = measured(weights_of(model), files), PAPER_VOC.with_width(WIDTH / 2)
    keep = prune.choose(whole.importances, config)
    pruned, narrow = prune.prune(whole.weights, keep), narrowing.narrow(whole, config)
    found = activations.measure(narrow.model(), whole.images).sums
    assert set(found) == {*whole.sums}
    limited = 0
    for name, moments in found.items():
        kept = keep.get(name, slice(None))
        mean, variance = whole.sums[name].mean[kept], whole.sums[name].variance[kept]
        spread = np.sqrt(variance.max())
        np.testing.assert_allclose(moments.mean, mean, rtol=0, atol=1e-3 * spread)
        factors = narrow.tensors[f"{name}.weight"] / pruned.tensors[f"{name}.weight"]
        factors = factors[:, 0, 0, 0]  # the same in a whole kernel
        free = (factors > 0.26) & (factors < 3.9)
        limited += (~free).sum()
        ours, theirs = moments.variance[free], variance[free]
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-6 * spread**2)
    assert 0 < limited < 100
    spreads = [moments["scores.0"].variance.sum() for moments in (found, whole.sums)]
    plain = activations.measure(pruned.model(), whole.images).sums["scores.0"].variance.sum()
    assert plain < 0.7 * spreads[0]
    assert spreads[0] == pytest.approx(spreads[1], rel=0.01)


def test_importance_is_what_readers_get(model):
    weights = weights_of(model)
    names = {step.name for step in model.network.steps}
    width = dict(channels.counts(weights.config).items())
    origin = channels.origins(weights.config)
    moments = {
        name: Moments(np.ones(width[origin[name]]), np.full(width[origin[name]], 2.0))
        for name in names
    }
    found = prune.importance(weights, moments)["conv4.3"]
    kernels = [weights.tensors[f"{name}.weight"] for name in ("conv5.1", "scores.0", "offsets.0")]
    expected = 2 * sum((kernel.astype(np.float64) ** 2).sum(axis=(0, 2, 3)) for kernel in kernels)
    np.testing.assert_allclose(found, expected)


# --- how narrow --------------------------------------------------------------------------------


def test_the_widest_network_within_a_limit():
    def cost(config):
        return multiply_adds(config, 20)

    limit = cost(PAPER_VOC) / 4
    found = targets.widest(PAPER_VOC, cost, limit, "multiply-adds")
    assert found == PAPER_VOC.with_width(0.5) or cost(found) <= limit
    assert cost(found) > 0.8 * limit
    with pytest.raises(ValueError, match=r"takes 3.14e.10 multiply-adds, already within that"):
        targets.widest(PAPER_VOC, cost, 1e12, "multiply-adds")
    with pytest.raises(ValueError, match=r"\(width 0.0625\) takes .* multiply-adds"):
        targets.widest(PAPER_VOC, cost, 10, "multiply-adds")


def test_a_network_is_never_its_own_target():
    narrow, costs = PAPER_VOC.with_width(0.125), iter([9.0, 1.0, 1.0, 1.0, 1.0])
    found = targets.widest(narrow, lambda config: next(costs), 5, "ms")  # as noise may be
    assert found == narrow.with_width(0.0625)


def test_layers_that_lose_nothing_give_most():
    full = channels.counts(PAPER_VOC)
    costs = sensitivity.Costs(
        1.0, {name: (1.0,) * 3 if name == "conv6.0" else (2.0, 3.0, 4.0) for name in full}
    )
    limit = multiply_adds(PAPER_VOC, 90) * 0.8
    config = sensitivity.allocate(PAPER_VOC, costs, limit, 90)
    found = channels.counts(config)
    assert found["conv6.0"] == 256  # the least that was measured
    assert multiply_adds(config, 90) <= limit
    assert all(count % 8 == 0 for count in found.values())
    table = sensitivity.format_table(PAPER_VOC, costs, config)
    assert "conv6.0     1.000    1.000    1.000  256 of 1024" in table


# --- the command -------------------------------------------------------------------------------


@pytest.fixture
def source(model, tmp_path):
    write(tmp_path / "wide.safetensors", weights_of(model))
    return tmp_path / "wide.safetensors"


def arguments(source, root, out, *more):
    narrow = {"--target-ms", "--target-flops", "--width"} & {*more}
    width = [] if narrow else ["--width", str(WIDTH / 4)]
    given = [str(source), "--data", str(root), "--out", str(out), *width, "--steps", "2"]
    return [*given, *QUICK, *more]


def test_it_prunes_and_tunes_in_steps_and_keeps_the_ancestry(source, root, tmp_path, capsys):
    out = tmp_path / "slim"
    assert slim.main(arguments(source, root, out)) == 0
    last = reader.read(out / run_files.LAST)
    assert channels.counts(last.config) == channels.counts(PAPER_VOC.with_width(WIDTH / 4))
    pruned = last.training["init"]
    assert pruned["file"] == "pruned.safetensors"
    assert pruned["pruned_from"]["init"]["pruned_from"] == {"note": "made"}
    table = capsys.readouterr().out
    assert table.count("\n") == 6  # heading, the weights, and two of each step
    assert slim.main(arguments(source, root, out)) == 1
    assert "holds a run; continue with --resume" in capsys.readouterr().err
    assert slim.main(arguments(source, root, out, "--resume", "--width", "0.0625")) == 1
    assert "--width 0.0625 differs: the run to resume has 0.03125" in capsys.readouterr().err
    compare = ["--compare", str(source), "--device", "cpu"]
    assert report.main([str(out), *compare]) == 0
    page = (out / "report.html").read_text()
    assert f"before: {source.parent.name}/wide.safetensors" in page
    assert "after: slim/best.safetensors" in page
    assert "multiplications an image" in page


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    """The folder of a run in two steps, beside its weights; tests work on copies."""
    folder = tmp_path_factory.mktemp("finished")
    write(folder / "wide.safetensors", weights_of(made_model()))
    made = arguments(folder / "wide.safetensors", root, folder / "slim", "--val-sets", "none")
    assert slim.main(made) == 0
    return folder


@pytest.fixture
def resumed(finished, root, tmp_path, monkeypatch, capsys):
    """A function that resumes a copy of that run with more options, and returns what is printed."""
    shutil.copytree(finished / "slim", tmp_path / "slim")

    def run(*more, status=0):
        monkeypatch.chdir(tmp_path)  # a run may be moved
        source = finished / "wide.safetensors"
        given = arguments(source, root, "slim", "--val-sets", "none", "--resume", *more)
        capsys.readouterr()
        assert slim.main(given) == status
        return capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--lr", "1"], "--lr 1.0 differs from the run to resume, which has 0.0002"),
        (["--seed", "3"], "--seed 3 differs"),
        (["--images", "1"], "--images 1 differs: the run to resume has 2"),
        (["--sensitivity"], "--sensitivity True differs: the run to resume has False"),
    ],
)
def test_resumed_with_another_option_it_says_which(resumed, tmp_path, more, message):
    shutil.rmtree(tmp_path / "slim" / "step1")  # so that no training of a step compares them
    assert message in resumed(*more, status=1).err


def test_more_iterations_are_those_of_the_last_step(resumed, tmp_path):
    first, last = (tmp_path / "slim" / part / run_files.LAST for part in ("step1", ""))
    before = first.read_bytes()
    resumed("--iterations", "4")
    assert first.read_bytes() == before
    assert reader.read(last).training["iterations"] == 4


def test_other_weights_are_not_those_that_were_pruned(finished, resumed):
    source, copy = finished / "wide.safetensors", finished / "copy.safetensors"
    source.rename(copy)
    try:
        table = resumed().out  # the trained networks do not need them
        assert f"weights file '{source}': cannot be read" in table
        assert table.count("no validation images") == 4
        write(source, weights_of(made_model(), ("cat", "dog")))
        assert "has changed since the run to resume began" in resumed(status=1).err
    finally:
        copy.replace(source)


def test_a_plan_without_options_and_digest_is_resumed(resumed, tmp_path):
    path = tmp_path / "slim" / "slim.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({"asked": values["asked"], "steps": values["steps"]}))
    assert resumed().out.count("\n") == 6


@pytest.mark.parametrize("text", ["{", "[]", '{"asked": {}, "steps": []}', '{"steps": [1]}'])
def test_a_broken_plan_is_named(resumed, tmp_path, text):
    (tmp_path / "slim" / "slim.json").write_text(text)
    assert "'slim/slim.json' is not a plan of training.slim" in resumed(status=1).err


@pytest.mark.parametrize("name", ["best.safetensors", "step1", "checkpoint.pt"])
def test_nothing_is_overwritten(source, root, tmp_path, capsys, name):
    out = tmp_path / "slim"
    out.mkdir()
    shutil.copy(source, out / name)
    assert slim.main(arguments(out / name, root, out)) == 1
    assert f"holds '{name}', which would be overwritten" in capsys.readouterr().err
    assert (out / name).read_bytes() == source.read_bytes()
    assert list(out.iterdir()) == [out / name]
    assert slim.main(arguments(source, root, out / name)) == 1
    assert "is a file, expected a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--width", "nan"], "--width must be above 0, got nan"),
        (["--width", "0.5"], "--width 0.5: no layer of the network (width 0.125) is wider"),
        (["--width", "5"], "--width 5: width must be above 0 and at most 4, got 5"),
        (["--target-flops", "-1"], "--target-flops must be above 0, got -1.0"),
        (["--init", "vgg16"], "--init is no option of the trainings here"),
        (["--init-lay", "conv1"], "--init-layers is no option of the trainings here"),
        (["--freeze", "conv99"], "unknown layer 'conv99'"),
        (["--device", "cuda:99"], "device 'cuda:99' not found"),
        (["--width", "0.02", "--sensitivity"], "--sensitivity keeps at least 25% of each layer's"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_measured(
    source, root, tmp_path, capsys, more, message
):
    out = tmp_path / "slim"
    assert slim.main(arguments(source, root, out, *more)) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not out.exists()


def test_sensitivity_needs_the_classes_of_the_data(root, tmp_path, capsys):
    other = tmp_path / "other.safetensors"
    write(other, weights_of(made_model(), ("cat", "disc")))
    assert slim.main(arguments(other, root, tmp_path / "slim", "--sensitivity")) == 1
    assert "which has no class 'square'" in capsys.readouterr().err


def test_options_of_the_training_hold_in_each_step(root, source, tmp_path, capsys):
    out = tmp_path / "slim"
    more = ["--width", "0.0625", "--preset", "demo", "--freeze", "conv1", "--no-batch-norm"]
    more += ["--store", "fp32"]
    assert slim.main(arguments(source, root, out, *more)) == 0
    before, after = (
        reader.read(out / name).tensors for name in ("pruned.safetensors", "last.safetensors")
    )
    same = {key for key in after if np.array_equal(before[key], after[key])}
    kernels = {key for key in same if key.startswith("conv") and key.endswith("weight")}
    assert kernels == {"conv1.1.weight", "conv1.2.weight"}


def test_the_table_has_a_line_for_every_file(source, root, tmp_path):
    write(
        tmp_path / "large.safetensors",
        weights_of(made_model(config=with_input_of_320_pixels(PAPER_VOC))),
    )
    write(tmp_path / "other.safetensors", weights_of(made_model(), ("disc", "cat")))
    names = ("wide", "gone", "other", "large")
    files = [tmp_path / f"{name}.safetensors" for name in names]
    records = voc.find_images(root, "test")
    only = ["disc", "square"]
    lines = table.table(files, table.Validation(records, only, "auto", only)).splitlines()
    assert [len(lines), lines[0].split()[-2:]] == [5, ["mAP", "(VOC2007)"]]
    wide, large = (lines[k].split() for k in (1, 4))
    assert [len(wide), float(wide[-1]) >= 0] == [5, True]
    assert float(large[2]) > float(wide[2])  # multiplications of a larger input
    assert "gone.safetensors': cannot be read" in lines[2]
    assert lines[3].endswith("- (other classes)")


def test_a_report_compares_only_what_can_be(finished, tmp_path, capsys):
    write(tmp_path / "other.safetensors", weights_of(made_model(), ("cat", "dog")))
    for file, message in (
        (tmp_path / "other.safetensors", "/other.safetensors' has the classes cat, dog, 'slim/"),
        (finished / "wide.safetensors", "has no validation images"),
    ):
        assert report.main([str(finished / "slim"), "--compare", str(file)]) == 1
        assert message in capsys.readouterr().err


def test_interrupted_while_measuring_it_can_be_resumed(source, root, tmp_path, monkeypatch, capsys):
    out, measure = tmp_path / "slim", activations.measure
    monkeypatch.setattr(activations, "measure", lambda *_: signal.raise_signal(signal.SIGINT))
    assert slim.main(arguments(source, root, out, "--sensitivity", "--width", "0.0625")) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert not out.exists()
    more = ["--width", "0.0625", "--val-sets", "none"]
    assert slim.main(arguments(source, root, out, *more)) == 130
    assert "interrupted; continue with --resume" in capsys.readouterr().err
    monkeypatch.setattr(activations, "measure", measure)
    assert slim.main(arguments(source, root, out, *more, "--resume")) == 0


def test_killed_in_any_step_it_ends_as_if_undisturbed(source, root, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert slim.main(arguments(source, root, whole)) == 0
    more: list[str] = []
    for call in (2, 6, 7):  # of os.replace, in sessions that go on from each other
        process = subprocess.run(
            [sys.executable, "-c", KILLED_AT, str(call), *arguments(source, root, killed, *more)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=HANGS,
        )
        assert process.returncode == -signal.SIGKILL, process.stderr
        more = ["--resume"]
    assert slim.main(arguments(source, root, killed, "--resume")) == 0
    ours, undisturbed = (reader.read(out / run_files.LAST).tensors for out in (killed, whole))
    assert all(np.array_equal(ours[key], undisturbed[key]) for key in undisturbed)


# Ends this process with SIGKILL at a call of os.replace: the file has no name yet.
KILLED_AT = """
import os, signal, sys
call, arguments = int(sys.argv[1]), sys.argv[2:]
replace, calls = os.replace, 0
def killing(*given, **more):
    global calls
    calls += 1
    if calls == call:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(*given, **more)
os.replace = killing
import torch
torch.set_num_threads(1)
from training import slim
sys.exit(slim.main(arguments))
"""


def test_the_plan_can_come_from_flops_and_sensitivity(source, root, tmp_path, capsys):
    config = reader.read(source).config
    limit = multiply_adds(config, 2) / 2
    out, more = tmp_path / "slim", ["--target-flops", str(limit), "--sensitivity"]
    more += ["--classes", "disc"]  # the dataset and the weights have another one
    assert slim.main(arguments(source, root, out, *more)) == 0
    last = reader.read(out / run_files.LAST).config
    assert last.width is None  # layers of their own widths
    assert 0.5 * limit < multiply_adds(last, 2) <= limit
    printed = capsys.readouterr()
    assert "with so many of one layer's channels" in printed.err
    assert "other classes" not in printed.out


def test_it_runs_in_one_process(source, root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert slim.main(arguments(source, root, tmp_path / "slim")) == 1
    assert "start it without torchrun" in capsys.readouterr().err


def test_milliseconds_are_measured_on_this_machine(source, root, tmp_path, capsys):
    pytest.importorskip("openvino")
    out = tmp_path / "slim"
    assert slim.main(arguments(source, root, out, "--target-ms", "1e-6")) == 1
    assert "the narrowest network" in capsys.readouterr().err
    assert slim.main(arguments(source, root, out, "--target-ms", "1e6")) == 1
    printed = capsys.readouterr().err
    assert "width 0.125: " in printed  # what was measured
    assert "--target-ms 1e+06: the network takes" in printed


# --- pretrained features -------------------------------------------------------------------------


def test_wider_features_start_a_narrow_network(root, tmp_path):
    from safetensors.torch import save_file
    from torchvision.models import vgg16

    with torch.device("meta"):
        shapes = {k: v.shape for k, v in vgg16().features.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    features = {
        f"features.{k}": 0.03 * torch.randn(s, generator=generator) for k, s in shapes.items()
    }
    save_file(features, tmp_path / "vgg.safetensors")
    out = tmp_path / "run"
    given = ["--data", str(root), "--out", str(out), "--init", str(tmp_path / "vgg.safetensors")]
    given += ["--preset", "narrow", "--width", "0.125", "--freeze", "conv1", "--val-sets", "none"]
    given += QUICK[:-2]
    assert train.main(given) == 0
    tensors = reader.read(out / run_files.LAST).tensors
    first, whole = tensors["conv1.1.weight"], features["features.0.weight"].numpy()
    assert first.shape == (8, 3, 3, 3)
    close = functools.partial(np.allclose, rtol=1e-4)  # restored: a factor of 1, but for rounding
    assert all(any(close(kernel, other) for other in whole) for kernel in first)
