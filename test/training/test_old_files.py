# SPDX-License-Identifier: Apache-2.0
"""Files of an earlier version still work; test/data/README.md says how they were made."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from ssd_ros.weights import reader
from ssd_ros.weights.__main__ import main as weights_main
from training import evaluate, report, train, voc
from training.data import samples
from training.data.voc import find_images
from training.trainer import run_files

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("one_thread")]

# What the old code added to its metrics when it continued the run to the end.
END = [
    {
        "iteration": 16,
        "loss": 5.727194,
        "classification": 4.106179,
        "location": 1.621015,
        "lr": 2e-5,
    },
    {"iteration": 16, "map": 0.25, "map_voc2007": 0.25},
]
BEST = 0.5  # mAP (VOC2007) of best.safetensors, as the old code evaluated it


@pytest.fixture
def old_run(tmp_path, monkeypatch):
    """The folder of a copy of the old run, beside its dataset: the run knows it as `voc`."""
    shutil.copytree(Path(__file__).parents[1] / "data" / "old_run", tmp_path / "old_run")
    monkeypatch.chdir(tmp_path / "old_run")
    return Path("run")


def test_a_training_continues_from_an_old_checkpoint_as_the_old_code_continued_it(old_run):
    before, best = run_files.read_metrics(old_run), (old_run / run_files.BEST).read_bytes()
    assert run_files.read_checkpoint(old_run)["progress"]["iteration"] == 13
    assert train.main(["--out", str(old_run), "--resume"]) == 0
    rows = run_files.read_metrics(old_run)
    assert rows[: len(before)] == before
    end = [{k: v for k, v in row.items() if k != "seconds"} for row in rows[len(before) :]]
    assert end == [pytest.approx(row, rel=2e-4) for row in END]
    assert reader.read(old_run / run_files.LAST).training["iterations"] == 16
    assert (old_run / run_files.BEST).read_bytes() == best  # the old mAP counts: it was higher
    assert run_files.read_checkpoint(old_run)["progress"]["iteration"] == 16
    starts = [s["iteration"] for s in run_files.read_run_info(old_run)["sessions"]]
    assert starts == [0, 13]


def test_old_weights_are_read_bit_for_bit_and_detect_as_before(old_run):
    file = old_run / run_files.BEST
    weights = reader.read(file)
    assert weights.classes == ("disc", "square")
    assert weights.training["map_voc2007"] == BEST
    stored = safetensors.numpy.load_file(file)
    assert weights.tensors.keys() == stored.keys()
    assert all(np.array_equal(weights.tensors[key], stored[key]) for key in stored)
    given = [str(file), "--data", "voc", "--device", "cpu", "--precision", "fp32", "--no-coco"]
    assert evaluate.main([*given, "--json", "metrics.json"]) == 0
    result = json.loads(Path("metrics.json").read_text())
    assert result["map_voc2007"] == pytest.approx(BEST, abs=0.02)


def test_the_report_shows_an_old_run(old_run):
    assert report.main([str(old_run), "--device", "cpu"]) == 0
    text = (old_run / "report.html").read_text(encoding="utf-8")
    assert float(re.search(r"mAP \(VOC2007\) ([\d.]+)<", text)[1]) == pytest.approx(BEST, abs=0.02)
    command = run_files.read_run_info(old_run)["sessions"][0]["command"]
    assert command in text
    assert text.count("<svg") == 5


def test_an_old_dataset_is_read_with_the_same_boxes(old_run):
    loaded, classes = samples.load(find_images(Path("voc"), "trainval+test"))
    assert (classes, len(loaded)) == (("disc", "square"), 4)
    assert loaded[0].labels.tolist() == [0, 1]
    assert loaded[0].boxes.tolist() == [[4, 1, 29, 26], [53, 0, 85, 32]]
    assert voc.main(["check", "voc"]) == 0


def test_a_checkpoint_of_the_training_names_the_weights_beside_it(old_run, capsys):
    checkpoint = str(old_run / "checkpoint.pt")
    message = (
        "is a checkpoint of training.train, to be resumed; its weights are in best.safetensors"
    )
    assert weights_main(["info", checkpoint]) == 1
    assert message in capsys.readouterr().err
    given = ["--data", str(old_run.parent / "voc"), "--out", str(old_run.parent / "another")]
    assert train.main([*given, "--init", checkpoint, "--device", "cpu"]) == 1
    assert message in capsys.readouterr().err
