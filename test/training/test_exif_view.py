# SPDX-License-Identifier: Apache-2.0
"""Boxes of photographs that EXIF turns are where their objects are, whichever view was labelled."""

import cv2
import numpy as np
import pytest
from made_dataset import make_set
from PIL import Image as PillowImage

from ssd_ros.io import image_files
from training import evaluate, train
from training.data import exif_view, soundness
from training.data.samples import load
from training.data.voc import find_images
from training.voc import main

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE, BOX = (120, 90), (70, 10, 110, 30)  # of the stored image


def photograph(root, orientation, view, size=SIZE, stated=True):
    """An image with a white rectangle, and an annotation of it in one of its views."""
    stored = np.zeros((size[1], size[0], 3), np.uint8)
    x1, y1, x2, y2 = BOX
    stored[y1:y2, x1:x2] = 255
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    path = root / "JPEGImages" / "0000.jpg"
    PillowImage.fromarray(stored).save(path, exif=exif, quality=95)
    box, labelled = BOX, size
    if view == "upright":
        upright = image_files.read(path)
        box, labelled = rectangle_in(upright), upright.shape[1::-1]
    tags = zip(("xmin", "ymin", "xmax", "ymax"), (box[0] + 1, box[1] + 1, *box[2:]), strict=True)
    text = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
    width, height = labelled if stated else (0, 0)
    (root / "Annotations" / "0000.xml").write_text(
        f"<annotation><size><width>{width}</width><height>{height}</height></size>"
        f"<object><name>disc</name><bndbox>{text}</bndbox></object></annotation>"
    )


def rectangle_in(image):
    rows, columns = np.nonzero(image[..., 0] > 127)
    return tuple(int(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))


@pytest.fixture
def root(tmp_path):
    root = make_set(tmp_path / "set", images=4)
    (root / "JPEGImages" / "0000.png").unlink()
    return root


def is_right(sample):
    expected = rectangle_in(image_files.read(sample.record.image))
    return np.abs(sample.boxes[0] - expected).max() <= 1  # JPEG blurs the edge


def load_photograph(root, view="auto"):
    return load(find_images(root, "trainval"), ("disc", "square"), view)[0][:1]


@pytest.mark.parametrize("view", ["upright", "stored"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_where_the_objects_are(root, orientation, view):
    photograph(root, orientation, view)
    told = orientation in (1, 5, 6, 7, 8)
    samples = load_photograph(root, "auto" if told else view)
    assert is_right(samples[0])
    assert soundness.find_warnings(samples) == []
    assert samples[0].size == samples[0].stated_size


@pytest.mark.parametrize(
    ("orientation", "size", "stated"), [(3, SIZE, True), (6, (120, 120), True), (6, SIZE, False)]
)
def test_what_the_size_does_not_tell_is_said_and_decided_by_the_option(
    root, orientation, size, stated, capsys
):
    photograph(root, orientation, "stored", size, stated)
    samples = load_photograph(root)
    assert not is_right(samples[0])
    (warning,) = soundness.find_warnings(samples)
    assert "1 images are turned by their EXIF orientation" in warning
    assert "0000.jpg'; taken as upright, --exif-view decides" in warning
    assert main(["check", str(root)]) == 1
    assert f"0000.xml: unknown view: EXIF orientation {orientation}" in capsys.readouterr().out
    assert is_right(load_photograph(root, "stored")[0])
    assert main(["check", str(root), "--exif-view", "stored"]) == (0 if stated else 1)
    assert "unknown view" not in capsys.readouterr().out


def test_a_size_of_the_stored_view_is_no_defect(root, capsys):
    photograph(root, 6, "stored")
    assert main(["check", str(root)]) == 0


def test_a_run_and_its_evaluation_have_the_same_option(root, tmp_path, capsys):
    photograph(root, 3, "stored")
    out = tmp_path / "run"
    given = "--width 0.0625 --iterations 1 --batch 2 --workers 0 --precision fp32 --device cpu"
    given = ["--data", str(root), *given.split(), "--val-sets", "trainval", "--out", str(out)]
    assert train.main([*given, "--exif-view", "stored"]) == 0
    assert "EXIF" not in capsys.readouterr().err
    weights = [str(out / "best.safetensors"), "--data", str(root), "--sets", "trainval"]
    for view in exif_view.CHOICES:
        assert evaluate.main([*weights, "--device", "cpu", "--exif-view", view]) == 0
        assert ("EXIF" in capsys.readouterr().err) == (view == "auto")


def test_opencv_turns_images_as_boxes_are_turned():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (5, 2))
    boxes = np.hstack((corners, corners + rng.uniform(1, 30, (5, 2)))).astype(np.float32)
    turned = exif_view.to_upright(boxes, 6, SIZE)
    again = exif_view.to_upright(turned, 8, exif_view.stored_size(6, SIZE))
    np.testing.assert_allclose(again, boxes, atol=1e-4)
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    image[10:30, 70:110] = 255
    expected = rectangle_in(cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE))
    assert exif_view.to_upright(np.array([BOX], float), 6, SIZE)[0].tolist() == list(expected)
