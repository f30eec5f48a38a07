# SPDX-License-Identifier: Apache-2.0
"""VOC-format datasets are read exactly, and their defects reported."""

import os
import shutil
import subprocess
import sys
import unicodedata

import cv2
import numpy as np
import pytest
from made_dataset import make_set

from ssd_ros.model import class_names
from training.data import voc
from training.data.boxes import clip_and_validate
from training.data.voc import VOCError
from training.data.voc_check import check
from training.voc import main

OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>
<xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"""


def xml(*objects, size="<size><width>120</width><height>90</height></size>"):
    """An annotation; objects as name, box, difficult."""
    inside = "".join(OBJECT.format(name=n, box=b, difficult=d) for n, b, d in objects)
    return f"<annotation>{size}{inside}</annotation>"


@pytest.fixture
def root(tmp_path):
    return make_set(tmp_path / "set")


# --- annotations -------------------------------------------------------------------------------


def test_boxes_become_continuous_so_that_areas_equal_the_devkit_s(tmp_path):
    file = tmp_path / "a.xml"
    file.write_text(xml(("cat", (1, 1, 10, 20), 0), ("dog", (5.5, 7, 120, 90), 1)))
    annotation = voc.read_annotation(file)
    assert annotation.names == ("cat", "dog")
    assert annotation.boxes.tolist() == [[0, 0, 10, 20], [4.5, 6, 120, 90]]
    assert annotation.difficult.tolist() == [False, True]
    assert annotation.size == (120, 90)
    sides = annotation.boxes[0, 2:] - annotation.boxes[0, :2]
    assert sides.tolist() == [10 - 1 + 1, 20 - 1 + 1]


def test_an_annotation_without_objects_is_valid(tmp_path):
    (tmp_path / "a.xml").write_text(xml())
    assert voc.read_annotation(tmp_path / "a.xml").boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object>", "a.xml' is not XML"),
        (
            xml(("cat", (1, 1, 9, 9), 0), ("cat", ("x", 1, 9, 9), 0)),
            "object 2: bndbox/xmin must be",
        ),
        (xml(("cat", ("nan", 1, 9, 9), 0)), "got 'nan'"),
        (xml((" ", (1, 1, 9, 9), 0)), "object 1: has no name"),
        (xml(("cat", (0.2, 0.1, 0.9, 1), 0)), "object 1: bndbox must be in pixels, got fractions"),
        (xml(("cat", (1, 1, 9, 9), "maybe")), "difficult must be 0 or 1, got 'maybe'"),
        (xml(("cat", (1, 1, 9, 9), 0)).replace("</name>", "</name><name>dog</name>"), "has 2 name"),
        (
            xml(("cat", (1, 1, 9, 9), 0)).replace("</bndbox>", "</bndbox><bndbox/>"),
            "object 1: has 2 bndbox, expected one",
        ),
        (
            xml(("cat", (1, 1, 9, 9), 0)).replace("</bndbox>", "<xmin>5</xmin></bndbox>"),
            "object 1: has 2 bndbox/xmin, expected one",
        ),
        ("<annotations><image/></annotations>", "is a <annotations>, expected an <annotation>"),
    ],
)
def test_an_unreadable_annotation_is_refused_with_file_and_object(tmp_path, text, message):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(VOCError, match=message):
        voc.read_annotation(tmp_path / "a.xml")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<annotation>", '<annotation xmlns="http://example.org/voc">'),
        ("object>", "Object>"),
        ("<object>", "<objects><object>"),
    ],
)
def test_no_object_is_overlooked(tmp_path, before, after):
    text = xml(("cat", (1, 1, 9, 9), 0)).replace(before, after)
    if "objects" in after:
        text = text.replace("</object>", "</object></objects>")
    (tmp_path / "a.xml").write_text(text)
    annotation = voc.read_annotation(tmp_path / "a.xml")
    assert annotation.names == ("cat",)
    assert annotation.boxes.tolist() == [[0, 0, 9, 9]]


def test_a_word_says_whether_an_object_is_difficult(tmp_path):
    words = ("", "0", "False", "Unspecified", "1", "true")
    (tmp_path / "a.xml").write_text(xml(*(("cat", (1, 1, 9, 9), word) for word in words)))
    assert voc.read_annotation(tmp_path / "a.xml").difficult.tolist() == [False] * 4 + [True] * 2


def test_only_boxes_with_an_area_in_the_image_are_valid():
    boxes = np.array(
        [[0, 0, 10, 10], [9, 9, 10, 20], [30, 5, 20, 9], [-5, -5, 5, 5], [200, 0, 210, 9]],
        np.float32,
    )
    clipped, valid = clip_and_validate(boxes, (120, 90))
    assert valid.tolist() == [True, False, False, True, False]
    assert clipped[3].tolist() == [0, 0, 5, 5]


ENCODINGS = {  # Python's name, and what the declaration says
    "utf-8": None,
    "utf-8-sig": "utf-8",
    "utf-16": "utf-16",
    "gb18030": "gb2312",
    "cp932": "Shift_JIS",
    "cp1252": "ISO-8859-1",
    "euc-kr": "euc-kr",
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_annotation_is_read_in_any_encoding(tmp_path, encoding):
    name = {"cp1252": "käfer", "euc-kr": "학교"}.get(encoding, "中国")
    declared = ENCODINGS[encoding]
    declaration = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    text = declaration + xml((name, (1, 1, 9, 9), 0))
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    assert voc.read_annotation(tmp_path / "a.xml").names == (name,)


def test_other_files_are_defects_and_do_not_end_the_check(root):
    hostile = {
        "0000": xml(("中", (1, 1, 9, 9), 0)).encode("gb18030"),  # declares nothing
        "0001": b'<?xml version="1.0" encoding="klingon"?><annotation/>',
        "0002": b"\0\xff\xfe" * 100,
    }
    for image_id, data in hostile.items():
        (root / "Annotations" / f"{image_id}.xml").write_bytes(data)
    (root / "Annotations" / "0003.xml").unlink()
    os.mkfifo(root / "Annotations" / "0003.xml")
    (root / "ImageSets" / "Main" / "broken.txt").write_bytes(b"\xff\xfe0")
    (root / "JPEGImages" / "0004.png").unlink()
    os.mkfifo(root / "JPEGImages" / "0004.png")
    kinds = [defect.kind for defect in check(root).defects]
    assert kinds == ["unreadable annotation"] * 4 + ["unreadable image", "unreadable set"]
    details = "\n".join(defect.detail for defect in check(root).defects)
    assert "0000.xml' is not in UTF-8: byte " in details
    assert "is in the encoding 'klingon', which Python does not know" in details
    assert "0003.xml' is not a regular file" in details


# --- folders -----------------------------------------------------------------------------------


def test_image_sets_of_several_years_are_joined_in_order(root, tmp_path):
    kit = tmp_path / "VOCdevkit"
    for year in ("2007", "2012"):
        shutil.copytree(root, kit / f"VOC{year}")
    for start in (kit, tmp_path):
        records = voc.find_images(start, "2012_test+2007_trainval")
        assert [record.image_id for record in records] == [
            f"{i:04d}" for i in (4, 5, 6, 7, 0, 1, 2, 3)
        ]
        assert records[0].image == kit / "VOC2012" / "JPEGImages" / "0004.png"
        assert records[-1].annotation == kit / "VOC2007" / "Annotations" / "0003.xml"


def test_what_is_missing_is_named(root, tmp_path):
    with pytest.raises(VOCError, match=r"train\.txt' not found; available: test, trainval"):
        voc.find_images(root, "train")
    with pytest.raises(VOCError, match="no Annotations/"):
        voc.find_images(tmp_path, "trainval")
    (root / "JPEGImages" / "0001.png").unlink()
    with pytest.raises(VOCError, match="names '0001'"):
        voc.find_images(root, "trainval")
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("")
    with pytest.raises(VOCError, match="is empty"):
        voc.find_images(root, "trainval")


def rename(root, image_id, name):
    """Gives an image and its annotation another name."""
    for folder, suffix in (("JPEGImages", ".png"), ("Annotations", ".xml")):
        target = root / folder / f"{name}{suffix}"
        target.parent.mkdir(exist_ok=True)
        (root / folder / f"{image_id}{suffix}").rename(target)


IMAGE_SETS = {
    "blanks": b"my photo 1\nb 1\n",
    "flags": b"my photo 1  1\r\nb -1\r\n",
    "suffixes": b"my photo 1.png\nb.PNG\n",
    "mark": "\ufeffmy photo 1\r\nb\r\n".encode(),
    "utf-16": "my photo 1\r\nb".encode("utf-16"),
    "utf-16 without a mark": "my photo 1\r\nb".encode("utf-16-le"),
    "folders": b"JPEGImages/my photo 1.png\n./b\n",
    "subfolders": b"task_3/a\nJPEGImages/task_3/a.png\ntask_3\\a.png\n",
}


@pytest.mark.parametrize("kind", IMAGE_SETS)
def test_an_image_set_is_read_as_tools_write_it(root, kind, capsys):
    for image_id, name in (("0000", "my photo 1"), ("0001", "b"), ("0002", "task_3/a")):
        rename(root, image_id, name)
    expected = ["task_3/a"] * 3 if kind == "subfolders" else ["my photo 1", "b"]
    (root / "ImageSets" / "Main" / "trainval.txt").write_bytes(IMAGE_SETS[kind])
    records = voc.find_images(root, "trainval")
    assert [record.image_id for record in records] == expected
    for record in records:
        assert record.image == root / "JPEGImages" / f"{record.image_id}.png"
        assert voc.read_annotation(record.annotation).names == ("disc", "square")
    if kind != "subfolders":
        assert main(["check", str(root)]) == 0
        assert "of these in no image set: disc 2, square 2\n" in capsys.readouterr().out


def test_a_name_in_an_image_set_that_is_none_is_shown_with_what_is_invisible(root):
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("0000\u200b\n", encoding="utf-8")
    with pytest.raises(VOCError, match=r"trainval\.txt' names '0000\\u200b', but "):
        voc.find_images(root, "trainval")


def test_classes_are_found_in_voc_s_order_for_voc_and_sorted_else(tmp_path):
    def classes(*names):
        (tmp_path / "a.xml").write_text(xml(*((name, (1, 1, 9, 9), 0) for name in names)))
        return voc.find_classes([voc.read_annotation(tmp_path / "a.xml")])

    assert classes("screw", "bolt", "screw") == ("bolt", "screw")
    assert classes("sofa", "bicycle") == ("bicycle", "sofa")
    assert classes(*class_names.VOC[5:]) == tuple(class_names.VOC)


# --- check -------------------------------------------------------------------------------------


def plant(root, text, image_id="0002"):
    (root / "Annotations" / f"{image_id}.xml").write_text(text)


def test_a_sound_set_has_no_defects(root, capsys):
    assert main(["check", str(root)]) == 0
    assert "8 images; objects: disc 8, square 8\nno defects" in capsys.readouterr().out


DEFECTS = {
    "missing image": lambda root: (root / "JPEGImages" / "0002.png").unlink(),
    "unreadable image": lambda root: (root / "JPEGImages" / "0002.png").write_bytes(b"x"),
    "missing annotation": lambda root: (root / "Annotations" / "0002.xml").unlink(),
    "unreadable annotation": lambda root: plant(root, "<annotation>"),
    "too small": lambda root: plant(root, xml(("disc", (9, 1, 9, 9), 0))),
    "swapped corners": lambda root: plant(root, xml(("disc", (9, 1, 3, 9), 0))),
    "outside the image": lambda root: plant(root, xml(("disc", (9, 1, 121, 9), 0))),
    "duplicate object": lambda root: plant(
        root, xml(("disc", (1, 1, 9, 9), 0), ("disc", (1, 1, 9, 9), 0))
    ),
    "no size": lambda root: plant(root, xml(("disc", (1, 1, 9, 9), 0), size="")),
    "wrong size": lambda root: cv2.imwrite(
        str(root / "JPEGImages" / "0002.png"), np.zeros((91, 120, 3), np.uint8)
    ),
    "duplicate id": lambda root: (root / "ImageSets/Main/trainval.txt").write_text("0002\n0002\n"),
    "empty set": lambda root: (root / "ImageSets/Main/trainval.txt").write_text("\n"),
    "no image sets": lambda root: shutil.rmtree(root / "ImageSets"),
}


def test_a_box_at_the_border_is_no_defect_where_pixels_count_from_0(root):
    plant(root, xml(("disc", (0, 0, 120, 90), 0)))
    assert check(root).defects == []
    plant(root, xml(("disc", (-1, 0, 120, 90), 0)))
    assert [defect.kind for defect in check(root).defects] == ["outside the image"]


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_planted_defect_is_found(root, kind):
    DEFECTS[kind](root)
    found = check(root, ["disc", "square"]).defects
    assert kind in {defect.kind for defect in found}
    # A file that is gone is missed by the sets, too.
    assert len({defect.kind for defect in found}) == 1
    if kind not in ("duplicate id", "empty set", "no image sets"):
        assert any(defect.file.stem == "0002" for defect in found)


def test_the_report_names_file_object_and_numbers(root, capsys):
    plant(root, xml(("square", (1, 1, 9, 9), 0), ("disc", (9, 1, 9, 9), 0)))
    assert main(["check", str(root)]) == 1
    out = capsys.readouterr().out
    assert "0002.xml: too small: object 2 (disc), xmin 9, ymin 1, xmax 9, ymax 9: width 1" in out
    assert "1 defect: too small 1" in out


@pytest.mark.parametrize(
    ("file", "other"),
    [
        ("JPEGImages/0002.png", "JPEGImages/0002.jpg"),
        ("Annotations/0002.xml", "Annotations/0002.XML"),
    ],
)
def test_two_files_of_one_name_are_a_defect_and_end_a_training(root, file, other):
    shutil.copy(root / file, root / other)
    assert [defect.kind for defect in check(root).defects] == ["duplicate id"]
    with pytest.raises(VOCError, match=r"0002\..* and '0002\..*' have the same name; remove one"):
        voc.find_images(root, "trainval")


def test_images_that_were_decoded_before_need_not_be_decoded_again(root):
    path = root / "JPEGImages" / "0002.png"
    path.write_bytes(path.read_bytes()[:200])  # the header is whole
    assert [defect.kind for defect in check(root).defects] == ["unreadable image"]
    assert check(root, decode=False).defects == []


def test_objects_of_other_classes_are_counted_and_no_defects(root, capsys):
    plant(root, xml(("disk", (9, 1, 3, 9), 0), ("disc", (9, 1, 9, 9), 0)))
    assert main(["check", str(root), "--classes", "disc"]) == 1
    out = capsys.readouterr().out
    assert "0002.xml: too small: object 2 (disc)" in out
    assert "objects: disc 8\nobjects of other classes, ignored: disk 1, square 7\n" in out
    assert "1 defect: too small 1" in out


def test_a_class_that_is_to_be_trained_and_has_no_object_is_a_defect(root, capsys):
    assert main(["check", str(root), "--classes", "disc,disk"]) == 1
    assert "no objects: of class 'disk'; ignored classes: square" in capsys.readouterr().out


def test_suffixes_in_capitals_are_read(root):
    for file in ("JPEGImages/0002.png", "Annotations/0002.xml"):
        path = root / file
        path.rename(path.with_suffix(path.suffix.upper()))
    assert check(root).defects == []
    assert voc.read_annotation(voc.find_images(root, "trainval")[2].annotation).names
    assert main(["split", str(root), "--force"]) == 0
    assert len(voc.find_images(root, "train+val+test")) == 8


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_set", ["NFC", "NFD"])
def test_accents_of_macos_and_of_other_systems_are_equal(root, on_disk, in_set):
    for file, form in (("JPEGImages/0002.png", on_disk), ("Annotations/0002.xml", "NFC")):
        path = root / file
        path.rename(path.with_stem(unicodedata.normalize(form, "café")))
    name = unicodedata.normalize(in_set, "café")
    (root / "ImageSets" / "Main" / "trainval.txt").write_text(f"0001\n{name}\n", encoding="utf-8")
    assert check(root).defects == []
    record = voc.find_images(root, "trainval")[1]
    assert record.image.exists()
    assert len(voc.read_annotation(record.annotation).names) == 2


def test_files_that_macos_writes_beside_others_are_no_data(root):
    (root / "JPEGImages" / "._0002.png").write_bytes(b"\0\5\x16\7")
    (root / "Annotations" / "._0002.xml").write_bytes(b"\0\5\x16\7")
    assert check(root).defects == []


def test_a_folder_that_is_no_data_set_is_an_error_of_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "training.voc", "check", tmp_path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    expected = f"error: '{tmp_path}' is not a VOC-format folder: it has no Annotations/; "
    assert done.returncode == 2
    assert done.stderr.startswith(expected)
    assert done.stderr.count("\n") == 1
