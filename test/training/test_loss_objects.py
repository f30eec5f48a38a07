# SPDX-License-Identifier: Apache-2.0
"""Every annotated object is in the loss, or named with the reason."""

import json
import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_dataset import make_set

from ssd_ros.model.config import PAPER_VOC
from ssd_ros.model.default_boxes import default_boxes
from training import evaluate, report, train, voc
from training.data import loss_objects
from training.data.augment import Augment
from training.data.dataset import DetectionDataset
from training.data.loss_objects import NO_AREA, NO_DEFAULT_BOX, TOO_THIN
from training.data.samples import load
from training.data.voc import find_images
from training.trainer import run_files
from training.trainer.loss import match

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = "--width 0.0625 --iterations 2 --batch 2 --workers 0 --precision fp32 --device cpu".split()


def plant(root, objects, size=(120, 90), image_id="0000"):
    """Another annotation, with objects as class, box as written, and difficult."""
    inside = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin>"
        f"<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, (x1, y1, x2, y2), difficult in objects
    )
    text = (
        f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{inside}"
        "</annotation>"
    )
    (root / "Annotations" / f"{image_id}.xml").write_text(text)
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    cv2.imwrite(str(root / "JPEGImages" / f"{image_id}.png"), pixels)


ODD = [
    ("disc", (900, 900, 1100, 1100), 0),
    ("disc", (500, 500, 506, 600), 0),  # 7 pixels of 3000: 0.7 of the input
    ("disc", (9, 9, 9, 20), 0),
    ("square", (2000, 2000, 2012, 2012), 0),  # one place for two, as by a slip
    ("square", (2000, 2000, 2012, 2012), 0),
]


@pytest.fixture
def root(tmp_path):
    root = make_set(tmp_path / "set", images=4)
    plant(root, ODD, (3000, 3000))
    return root


def test_every_reason_is_named_with_file_and_object(root):
    samples, classes = load(find_images(root, "trainval"))
    lost = loss_objects.find_lost(samples)
    found = [(item.file.name, item.number, item.reason) for item in lost]
    assert found == [
        ("0000.xml", 2, TOO_THIN),
        ("0000.xml", 3, NO_AREA),
        ("0000.xml", 4, NO_DEFAULT_BOX),
    ]
    texts = loss_objects.describe(lost, samples, classes)
    assert len(texts) == 3
    assert f"1 of 7 objects are not in the loss ({TOO_THIN}): disc 1; in {lost[0].file}" in texts[2]


def test_check_train_and_report_name_them(root, tmp_path, capsys):
    done = subprocess.run(
        [sys.executable, "-m", "training.voc", "check", root],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"0000.xml: not in the loss: object 2 (disc): {TOO_THIN}" in done.stdout
    assert f"0000.xml: not in the loss: object 4 (square): {NO_DEFAULT_BOX}" in done.stdout
    assert "\nof these not in the loss of a training: disc 2, square 1\n" in done.stdout
    out = tmp_path / "run"
    assert train.main(["--data", str(root), "--out", str(out), *QUICK]) == 0
    error = capsys.readouterr().err
    for reason in (NO_AREA, TOO_THIN, NO_DEFAULT_BOX):
        assert f"warning: 1 of 7 objects are not in the loss ({reason}): " in error
    assert report.main([str(out), "--device", "cpu"]) == 0
    page = (out / "report.html").read_text()
    assert "3 objects of the training images are not in the loss" in page
    assert f"<td>4</td><td>square</td><td>{NO_DEFAULT_BOX}</td>" in page


def test_objects_in_no_image_set_are_counted(root, capsys):
    (root / "ImageSets" / "Main" / "test.txt").write_text("0002\n")
    voc.main(["check", str(root)])
    assert "of these in no image set: disc 1, square 1\n" in capsys.readouterr().out


def test_a_class_of_which_nothing_is_left_is_refused(root, tmp_path, capsys):
    plant(root, [*ODD, ("bolt", (1, 1, 5, 5), 0)], (3000, 3000))
    given = ["--data", str(root), "--out", str(tmp_path / "run"), *QUICK, "--val-sets", "none"]
    assert train.main(given) == 1
    error = capsys.readouterr().err
    assert (
        "error: no object of class 'bolt' reaches the loss; the first of 1 in the training" in error
    )
    assert f"0000.xml', object 6: {TOO_THIN}" in error


def test_images_that_no_iteration_uses_are_reported(root, tmp_path, capsys):
    given = ["--data", str(root), "--out", str(tmp_path / "run"), *QUICK, "--val-sets", "none"]
    assert train.main([*given, "--iterations", "1", "--batch", "1"]) == 0
    assert "warning: only 1 of 2 images are used in 1 iterations" in capsys.readouterr().err


def test_an_undefined_map_is_said_to_be_undefined_and_decides_nothing(root, tmp_path, capsys):
    for image_id in ("0002", "0003"):
        plant(root, [("disc", (20, 20, 60, 60), 1)], image_id=image_id)
    out = tmp_path / "run"
    given = ["--data", str(root), "--out", str(out), *QUICK, "--validate-every", "1"]
    assert train.main(given) == 0
    error = capsys.readouterr().err
    assert "warning: --val-sets: the mAP is undefined: none of the 2 objects is without" in error
    assert error.count("mAP (VOC2007) undefined (no object counts)") == 2
    rows = [row for row in run_files.read_metrics(out) if "map" in row]
    assert [(row["map"], row["map_voc2007"]) for row in rows] == [(None, None)] * 2
    # The last are the best, as without validation.
    assert (out / run_files.BEST).read_bytes() == (out / run_files.LAST).read_bytes()
    target = tmp_path / "metrics.json"
    weights = str(out / run_files.BEST)
    given = [weights, "--data", str(root), "--device", "cpu", "--json", str(target)]
    assert evaluate.main(given) == 0
    result = json.loads(target.read_text())
    assert result["map"] is result["map_voc2007"] is None
    assert set((result["coco"] or {"map": None}).values()) == {None}
    assert "mAP undefined: " in capsys.readouterr().out
    assert report.main([str(out), "--device", "cpu"]) == 0
    assert "undefined: no object is" in (out / "report.html").read_text()


# --- what holds for any annotation -------------------------------------------------------------

NUMBER = st.one_of(st.integers(-4, 70), st.floats(-4, 70, width=16), st.sampled_from((1, 30, 64)))
SIDE = st.one_of(st.integers(0, 8), st.floats(0, 8, width=16))
BOX = st.one_of(
    st.tuples(NUMBER, NUMBER, NUMBER, NUMBER),
    st.tuples(NUMBER, NUMBER, SIDE, SIDE).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])),
)
OBJECTS = st.lists(
    st.tuples(
        st.sampled_from(("disc", "square")),
        BOX.filter(lambda box: max(box) > 1),  # no fractions
        st.sampled_from((0, 1)),
    ),
    min_size=1,
    max_size=12,
)


# About a pixel of the network's input on one side, a little more or less, or exactly.
SIDES = st.one_of(
    st.floats(0.5, 2),
    st.floats(0.999, 1.001),
    st.sampled_from((1, 1 - 1e-7, 1 + 1e-7, 40)),
)
THIN = st.lists(
    st.tuples(st.floats(0, 0.9), st.floats(0, 0.9), SIDES, SIDES, st.booleans()), max_size=6
)


def thin_box(size, left, top, sides, cut):
    """A box as written, with sides in pixels of the network's input; cut: at the image's border."""
    width, height = (pixels / 300 * side for pixels, side in zip(size, sides, strict=True))
    x1, y1 = left * size[0], top * size[1]
    if cut:
        return (size[0] - width + 1, y1 + 1, size[0] + 50, y1 + height)
    return (x1 + 1, y1 + 1, x1 + width, y1 + height)


def crowded(box):
    """The box with others in one place, where they compete for default boxes."""
    x1, y1, x2, y2 = (30 + value / 20 for value in box)
    return (x1, y1, x2 + 6, y2 + 6)


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(
    objects=OBJECTS,
    thin=THIN,
    near=st.booleans(),
    size=st.sampled_from(((64, 64), (64, 40), (900, 300), (640, 480), (400, 700))),
)
def test_objects_in_the_file_are_in_the_loss_or_named(made_root, objects, thin, near, size):
    if near:
        objects = [(name, crowded(box), difficult) for name, box, difficult in objects]
    boxes = [thin_box(size, left, top, sides, cut) for left, top, *sides, cut in thin]
    objects = objects + [("disc", box, 0) for box in boxes if max(box) > 1]
    plant(made_root, objects, size)
    samples, _ = load(find_images(made_root, "trainval"), ("disc", "square"))
    _, boxes, _, _ = DetectionDataset(samples, Augment("none", (0, 0, 0), 300), 0)[0]
    lost = loss_objects.find_lost(samples)
    assert len(objects) == in_the_loss(boxes) + len(lost)
    reasons = Counter(item.reason for item in lost)
    assert len(boxes) == len(objects) - reasons[NO_AREA] - reasons[TOO_THIN]


@pytest.fixture(scope="module")
def made_root(tmp_path_factory):
    root = make_set(tmp_path_factory.mktemp("made") / "set", images=2)
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("0000\n")
    return root


def in_the_loss(boxes):
    """How many boxes own a default box, by the loss's own matching: each a class of its own."""
    defaults = torch.from_numpy(default_boxes(PAPER_VOC))
    classes = match(boxes[None], torch.arange(len(boxes))[None], defaults).classes
    return len(set(classes[classes > 0].tolist()))


def test_thin_boxes_are_lost_exactly_where_the_transforms_drop_them(made_root):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 900, (300, 2))
    boxes = np.hstack((corners, corners + rng.uniform(0, 9, (300, 2))))
    plant(made_root, [("disc", tuple(box), 0) for box in boxes.tolist()], (900, 900))
    samples, _ = load(find_images(made_root, "trainval"), ("disc", "square"))
    _, kept, _, _ = DetectionDataset(samples, Augment("none", (0, 0, 0), 300), 0)[0]
    reasons = [item.reason for item in loss_objects.find_lost(samples)]
    assert reasons.count(TOO_THIN) > 50
    assert len(kept) == 300 - reasons.count(NO_AREA) - reasons.count(TOO_THIN)
