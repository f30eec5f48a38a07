# SPDX-License-Identifier: Apache-2.0
"""Training on some of the classes, and for more or fewer iterations than were planned."""

import json

import pytest
from made_dataset import make_set

from ssd_ros.weights import reader
from training import evaluate, report, train
from training.data import voc_check
from training.trainer import run_files
from training.voc import main as voc_main

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("one_thread")]

QUICK = "--width 0.0625 --batch 2 --workers 0 --precision fp32 --device cpu".split()


@pytest.fixture
def root(tmp_path):
    return make_set(tmp_path / "set", images=4)


def run(root, out, *more):
    return train.main(["--data", str(root), "--out", str(out), *QUICK, *more])


def rename_class(root, image_ids, old, new):
    for image_id in image_ids:
        path = root / "Annotations" / f"{image_id}.xml"
        path.write_text(path.read_text().replace(f">{old}<", f">{new}<"))


def test_objects_of_other_classes_are_ignored_and_counted(root, tmp_path, capsys):
    out = tmp_path / "run"
    assert run(root, out, "--iterations", "1", "--classes", "disc") == 0
    error = capsys.readouterr().err
    assert "warning: 2 objects of other classes than --classes ignored: square 2" in error
    assert "warning: --val-sets: 2 objects of other classes" in error
    assert reader.read(out / run_files.LAST).classes == ("disc",)
    assert report.main([str(out), "--device", "cpu"]) == 0
    page = (out / "report.html").read_text()
    assert "<th>other classes</th><th>disc</th>" in page
    assert "<td>2</td><td>2</td></tr>" in page
    given = [str(out / run_files.BEST), "--data", str(root), "--device", "cpu"]
    assert evaluate.main(given) == 1
    assert "; --classes disc ignores other objects" in capsys.readouterr().err
    target = tmp_path / "metrics.json"
    assert evaluate.main([*given, "--classes", "disc", "--json", str(target)]) == 0
    assert "warning: 2 objects of other classes" in capsys.readouterr().err
    assert json.loads(target.read_text())["classes"]["disc"]["objects"] == 2


def test_a_class_only_in_the_validation_set_says_what_to_do(root, tmp_path, capsys):
    rename_class(root, ["0003"], "square", "bolt")
    assert run(root, tmp_path / "run", "--iterations", "1") == 1
    error = capsys.readouterr().err
    assert "0003.xml' has the class 'bolt', expected one of disc, square. No image of" in error
    assert "or ignore it with --classes disc,square" in error
    assert run(root, tmp_path / "run", "--iterations", "1", "--classes", "disc,square") == 0


@pytest.mark.parametrize("spelling", [["disc,square"], ["disc", "square"], ["disc, square"]])
def test_classes_have_one_spelling_in_every_command(root, tmp_path, spelling, capsys):
    out = tmp_path / "run"
    assert run(root, out, "--iterations", "1", "--classes", *spelling) == 0
    assert reader.read(out / run_files.LAST).classes == ("disc", "square")
    assert voc_main(["check", str(root), "--classes", *spelling]) == 0
    given = [str(out / run_files.LAST), "--data", str(root), "--device", "cpu"]
    assert evaluate.main([*given, "--classes", *spelling]) == 0
    report = voc_check.check(root, ["disc"])
    assert (report.ignored, report.defects) == ({"square": 4}, [])


def test_a_run_can_be_made_longer_and_shorter(root, tmp_path, capsys):
    out = tmp_path / "run"
    plan = ["--schedule", "cosine", "--warmup", "0", "--val-sets", "none"]
    assert run(root, out, "--iterations", "20", *plan) == 0
    assert train.main(["--out", str(out), "--resume", "--iterations", "40"]) == 0
    rates = {row["iteration"]: row["lr"] for row in run_files.read_metrics(out)}
    assert rates[20] < 1e-5  # the end of the first plan
    assert 1e-4 < rates[30] < 9e-4  # three quarters of the second
    assert rates[40] < 1e-5
    info = run_files.read_run_info(out)
    assert info["options"]["iterations"] == 40
    assert [session["iteration"] for session in info["sessions"]] == [0, 20]
    capsys.readouterr()
    assert train.main(["--out", str(out), "--resume", "--iterations", "30"]) == 1
    error = capsys.readouterr().err
    assert "error: --iterations 30 is less than the 40 that the run to resume has done" in error


def test_the_mean_loss_is_of_the_steps_since_the_last_line(root, tmp_path):
    """Also where a run goes on that ended between two lines."""
    out, plan = tmp_path / "run", ["--lr", "1e-9", "--augment", "none", "--val-sets", "none"]
    assert run(root, out, "--iterations", "15", *plan) == 0
    assert train.main(["--out", str(out), "--resume", "--iterations", "20"]) == 0
    losses = {row["iteration"]: row["loss"] for row in run_files.read_metrics(out)}
    assert losses[20] == pytest.approx(losses[10], rel=0.05)


def test_there_must_be_something_to_resume(root, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    for name in ("run", "none"):
        assert run(root, tmp_path / name, "--iterations", "1", "--resume") == 1
        error = capsys.readouterr().err
        assert f"error: '{tmp_path / name}' holds no run to resume; omit --resume to start" in error
