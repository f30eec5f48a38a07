# SPDX-License-Identifier: Apache-2.0
"""A training that would give unusable or other weights says so when it starts."""

import json
import os
import shutil

import pytest
import torch
from made_dataset import make_set

from training import evaluate, report, train
from training.data import samples, soundness, voc
from training.trainer import run_files
from training.trainer.lock import locked

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("one_thread")]

QUICK = "--width 0.0625 --iterations 2 --batch 2 --workers 0 --precision fp32 --device cpu".split()
QUICK += "--val-sets none --checkpoint-every 1".split()


@pytest.fixture
def root(tmp_path):
    return make_set(tmp_path / "set", images=4)


@pytest.fixture
def stopped(root, tmp_path):
    """The folder of a run that was killed after its first iteration."""

    class Killed(BaseException):
        pass

    def step_or_die(self, parts):
        if self.progress.iteration == 1:
            raise Killed
        return step(self, parts)

    step = train.Trainer.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Trainer, "step", step_or_die)
        with pytest.raises(Killed):
            run(root, tmp_path / "run", "--boxes", "auto")
    return tmp_path / "run"


def run(root, out, *more):
    return train.main(["--data", str(root), "--out", str(out), *QUICK, *more])


def replace_in_annotations(root, *pairs):
    for path in (root / "Annotations").iterdir():
        text = path.read_text()
        for old, new in pairs:
            text = text.replace(old, new)
        path.write_text(text)


@pytest.mark.parametrize("classes", ["disc,square,,", "disc,square,disc", ","])
def test_class_names_that_no_weights_file_can_hold_are_refused(root, tmp_path, capsys, classes):
    assert run(root, tmp_path / "run", "--classes", classes) == 1
    assert "classes must be different, non-empty names, got [" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_annotations_for_another_size_are_reported(root, tmp_path, capsys):
    replace_in_annotations(root, ("<width>120", "<width>480"), ("<height>90", "<height>360"))
    assert run(root, tmp_path / "run") == 0
    error = capsys.readouterr().err
    assert "warning: 2 annotations are for images of another size, first: " in error
    assert f"0000.xml' states 480x360, '{root}/JPEGImages/0000.png' has 120x90" in error


def test_boxes_outside_of_all_images_are_an_error(root, tmp_path, capsys):
    replace_in_annotations(root, *((f"<{a}>", f"<{a}>4") for a in ("xmin", "ymin", "xmax", "ymax")))
    assert run(root, tmp_path / "run") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: none of the 4 boxes has an area inside its image, first: '")


def test_a_stated_size_of_zero_is_none(root, capsys):
    replace_in_annotations(root, ("<width>120", "<width>0"), ("<height>90", "<height>0"))
    found, _ = samples.load(voc.find_images(root, "trainval"))
    assert [(s.size, s.stated_size) for s in found] == [((120, 90), None)] * 2
    assert soundness.find_warnings(found) == []


def test_a_changed_dataset_is_refused_at_resume(root, stopped, capsys):
    annotation = root / "Annotations" / "0000.xml"
    before = annotation.read_text()
    shutil.copy(root / "Annotations" / "0002.xml", annotation)
    assert train.main(["--out", str(stopped), "--resume"]) == 1
    assert "the dataset is not that of the run to resume" in capsys.readouterr().err
    annotation.write_text(before)
    assert train.main(["--out", str(stopped), "--resume"]) == 0


def test_precision_and_configuration_are_those_with_which_the_run_began(
    root, stopped, capsys, monkeypatch
):
    state = run_files.read_checkpoint(stopped)
    assert state["options"]["precision"] == "fp32"
    state["device"] = "cuda"
    torch.save(state, stopped / run_files.CHECKPOINT)
    # As if the choice of `--boxes auto` came out differently now, and of `--precision auto`.
    monkeypatch.setattr(train.box_scales, "with_scales", None)
    monkeypatch.setattr(train, "choose_precision", lambda precision, _: precision)
    assert train.main(["--out", str(stopped), "--resume", "--precision", "auto"]) == 0
    error = capsys.readouterr().err
    assert "warning: the run began on cuda, continues on cpu in fp32" in error


def test_two_trainings_do_not_share_a_folder(root, tmp_path, capsys):
    with locked(tmp_path / "run"):
        assert run(root, tmp_path / "run") == 1
        assert f"another training is running in '{tmp_path}/run'" in capsys.readouterr().err
        assert list((tmp_path / "run").iterdir()) == []
    assert run(root, tmp_path / "run") == 0


def test_a_dataset_need_not_have_a_name_in_utf_8(tmp_path, capsys):
    root = make_set(tmp_path / "set", images=4).rename(tmp_path / os.fsdecode(b"caf\xe9"))
    for path in sorted((root / "JPEGImages").iterdir()):
        path.rename(path.with_name(os.fsdecode(b"\xe9") + path.name))
        annotation = root / "Annotations" / f"{path.stem}.xml"
        annotation.rename(annotation.with_name(os.fsdecode(b"\xe9") + annotation.name))
    for path in (root / "ImageSets" / "Main").iterdir():
        path.write_bytes(b"".join(b"\xe9" + line + b"\n" for line in path.read_bytes().split()))
    with pytest.raises(voc.VOCError, match=r"trainval\.txt' is not in UTF-8: byte 0 is 0xe9"):
        voc.find_images(root, "trainval")
    root = make_set(tmp_path / "set", images=4).rename(tmp_path / os.fsdecode(b"na\xefve"))
    assert run(root, tmp_path / "run") == 0
    given = [str(tmp_path / "run"), "--device", "cpu"]
    assert report.main(given) == 0, capsys.readouterr().err


def test_a_damaged_line_of_the_metrics_costs_only_itself(tmp_path):
    rows = ['{"iteration": 1}', '{"iter', "[]", '{"iteration": 2}', '{"iteration": 9}']
    (tmp_path / "metrics.jsonl").write_bytes("\n".join(rows).encode() + b"\n\xff\n")
    run_files.Metrics(tmp_path, 2, tensorboard=False)
    assert run_files.read_metrics(tmp_path) == [{"iteration": 1}, {"iteration": 2}]


@pytest.mark.parametrize("change", ["list", "key", "shape", "option", "text"])
def test_a_checkpoint_of_something_else_is_refused_in_one_line(stopped, capsys, change):
    path = stopped / run_files.CHECKPOINT
    state = run_files.read_checkpoint(stopped)
    if change == "key":
        del state["optimizer"]
    elif change == "shape":
        state["model"]["conv1.0.weight"] = torch.zeros(1)
    elif change == "option":
        state["options"]["invented"] = 1
    torch.save([1] if change == "list" else state, path)
    if change == "text":
        path.write_text("text")
    assert train.main(["--out", str(stopped), "--resume"]) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("error: ")
    assert "checkpoint" in error or "invented" in error


SESSION = {"date": "d", "iteration": 0, "command": "<script>x</script>", "device": "cpu"}


@pytest.mark.parametrize(
    "info",
    [
        [],
        {"options": [], "classes": [], "sessions": []},
        {"options": {"data": 1, "sets": "a", "val_sets": "none"}, "classes": [], "sessions": []},
        {"options": {"data": "", "sets": "", "val_sets": ""}, "classes": [], "sessions": [SESSION]},
    ],
)
def test_a_report_of_a_broken_run_is_an_error_in_one_line(tmp_path, capsys, info):
    (tmp_path / run_files.RUN_INFO).write_text(json.dumps(info))
    assert report.main([str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: '{tmp_path / run_files.RUN_INFO}' is not a run.json")
    assert error.count("\n") == 1


def test_a_report_shows_what_a_run_holds_as_text(tmp_path, capsys):
    names = ("<script>alert(1)</script>", "$x_", "_hidden")
    root = make_set(tmp_path / "set", images=4)
    for old, name in (("disc", names[0].replace("<", "&lt;")), ("square", names[1])):
        replace_in_annotations(root, (f"<name>{old}", f"<name>{name}"))
    replace_in_annotations(root, ("</annotation>", ""))
    for path in (root / "Annotations").iterdir():
        text = path.read_text()
        more = text[text.index("<object>") : text.index("</object>")] + "</object></annotation>"
        more = more[: more.index("<name>")] + "<name>_hidden" + more[more.index("</name>") :]
        path.write_text(text + more)
    out = tmp_path / "run"
    assert run(root, out, "--val-sets", "test") == 0, capsys.readouterr().err
    (out / "metrics.jsonl").write_text(
        '{"iteration": 1, "loss": 2}\n{"iteration": 2, "loss": "<script>"}\n'
    )
    info = json.loads((out / run_files.RUN_INFO).read_text())
    info["sessions"][0]["versions"]["<script>"] = info["sessions"][0]["date"] = "<script>"
    (out / run_files.RUN_INFO).write_text(json.dumps(info))
    assert report.main([str(out), "--device", "cpu"]) == 0, capsys.readouterr().err
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "$x_" in text
    assert text.count("_hidden") > 2


def test_evaluation_checks_its_output_first(root, tmp_path, capsys):
    target = root / "JPEGImages" / "0000.png" / "metrics.json"
    given = ["demo", "--data", str(root), "--json", str(target)]
    assert evaluate.main(given) == 1
    assert str(target) in capsys.readouterr().err
