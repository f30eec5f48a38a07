# SPDX-License-Identifier: Apache-2.0
"""No object of an odd or damaged export is lost, or given to another image, without a word."""

import json
import shutil
import unicodedata
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_dataset import make_set
from PIL import Image

from ssd_ros.io import image_files
from training.data import samples, voc
from training.importing import voc_files, yolo_files
from training.importing.convert import Options, convert, read
from training.importing.files import SourceFiles
from training.importing.labels import DatasetImportError
from training.voc import main

SIZE = (120, 90)
OBJECT = "<object><name>{name}</name><difficult>{difficult}</difficult>{shape}</object>"  # as VOC's
BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("original") / "set", images=4, size=SIZE)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "export").mkdir()
    return tmp_path / "export"


def put_image(original, path, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(original / "JPEGImages" / f"000{number}.png", path)


def put_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def xml(*shapes, name="cat", difficult=0, filename=""):
    inside = "".join(OBJECT.format(name=name, difficult=difficult, shape=s) for s in shapes)
    size = "<size><width>120</width><height>90</height></size>"
    return f"<annotation><filename>{filename}</filename>{size}{inside}</annotation>"


def objects_of(root, **options):
    """For each imported image the names and boxes of its objects; and all that was found."""
    labels = read(root, **options)[1]
    found = {
        image.image.relative_to(root).as_posix(): [
            (o.name, *map(round, o.box)) for o in image.objects
        ]
        for image in labels.images
    }
    return found, labels


# --- which image is meant ------------------------------------------------------------------------


def test_an_annotation_without_its_image_takes_no_other_one_of_the_same_name(original, root):
    """Neither in VOC nor in YOLO format, whichever comes first."""
    for part in ("train", "val"):
        put_text(root / part / "0001.xml", xml(BOX.format(1, 1, 9, 9), name=part))
        put_text(root / "labels" / part / "0001.txt", f"{part == 'val':d} 0.5 0.5 0.2 0.2")
    put_text(root / "classes.txt", "train\nval\n")
    put_image(original, root / "val" / "0001.png")
    found, labels = objects_of(root, kind="voc")
    assert found == {"val/0001.png": [("val", 0, 0, 9, 9)]}
    assert "train/0001.xml' is for " in labels.dropped_files[0]
    put_image(original, root / "images" / "val" / "0001.png")
    (root / "val" / "0001.png").unlink()
    found, labels = objects_of(root, kind="yolo")
    assert [name for name, *_ in found["images/val/0001.png"]] == ["val"]
    assert "train/0001.txt' is for " in labels.dropped_files[0]


def test_an_xml_file_with_the_name_of_the_image_counts_before_one_that_names_it(original, root):
    put_image(original, root / "0001.png")
    put_text(root / "0000.xml", xml(BOX.format(1, 1, 5, 5), filename="0001.png", name="copied"))
    put_text(root / "0001.xml", xml(BOX.format(1, 1, 9, 9), filename="0001.png", name="own"))
    found, labels = objects_of(root)
    assert found == {"0001.png": [("own", 0, 0, 9, 9)]}
    assert len(labels.dropped_files) == 1


@pytest.mark.parametrize(
    ("on_disk", "written"),
    [
        (unicodedata.normalize("NFD", "café.png"), unicodedata.normalize("NFC", "café.png")),
        (unicodedata.normalize("NFC", "café.png"), unicodedata.normalize("NFD", "café.png")),
        ("my photo.png", "/data/upload/my%20photo.png"),
        ("IMG_1.PNG", "img_1.png"),
        ("photo.1.png", "C:\\images\\photo.1.png"),
        ("photo.1.png", "photo.1"),
        ("100%25.png", "100%25.png"),
    ],
)
def test_names_of_other_systems_are_understood(original, root, on_disk, written):
    put_image(original, root / on_disk)
    put_text(root / "labels" / "0000.xml", xml(BOX.format(1, 1, 9, 9), filename=written))
    assert objects_of(root)[0] == {on_disk: [("cat", 0, 0, 9, 9)]}


def test_a_suffix_tells_images_of_one_name_apart_in_any_case(original, root):
    for name in ("a.png", "a.bmp"):
        put_image(original, root / name)
    put_text(root / "xml" / "a.xml", xml(BOX.format(1, 1, 9, 9), filename="a.PNG"))
    assert objects_of(root)[0] == {"a.png": [("cat", 0, 0, 9, 9)]}


# --- YOLO ----------------------------------------------------------------------------------------


@pytest.fixture
def yolo(original, root):
    for number in range(3):
        put_image(original, root / f"000{number}.png", number)
        put_text(root / f"000{number}.txt", "0 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.4 0.4\n")
    put_text(root / "classes.txt", "disc\nsquare\n")
    return root


@pytest.mark.parametrize(
    "line",
    ["0 0.5 0.5 0.2", "disc 0.5 0.5 0.2 0.2", "0 0,5 0,5 0,2 0,2", "0 0.5 0.5 0.2 0.2 0.1 0.1 0.1"],
)
def test_a_damaged_line_does_not_make_the_image_background(yolo, line):
    put_text(yolo / "0000.txt", f"{line}\n1 0.5 0.5 0.4 0.4\n")
    found, labels = objects_of(yolo)
    assert [name for name, *_ in found["0000.png"]] == ["square"]
    assert len(labels.dropped_objects) == 1
    assert "0000.txt', line 1: " in labels.dropped_objects[0]


def test_images_whose_labels_cannot_be_read_or_assigned_are_no_background(yolo, original):
    put_image(original, yolo / "0000.bmp")
    (yolo / "0001.txt").write_bytes(b"0 0.5 0.5 0.2 0.2 \xff\n")
    found, labels = objects_of(yolo)
    assert list(found) == ["0002.png"]
    texts = "\n".join(labels.dropped_files)
    assert "0000.txt' names '0000', which may be " in texts
    assert "0000.png'; it has 2 objects" in texts
    assert "0001.txt' is not in UTF-8" in texts


def test_a_description_of_an_image_is_not_taken_for_its_labels(yolo):
    for folder in ("images", "labels"):
        (yolo / folder).mkdir()
    for number in range(3):
        (yolo / f"000{number}.png").rename(yolo / "images" / f"000{number}.png")
        (yolo / f"000{number}.txt").rename(yolo / "labels" / f"000{number}.txt")
        put_text(yolo / "images" / f"000{number}.txt", "a red disc\n")
    found, labels = objects_of(yolo)
    assert [len(objects) for objects in found.values()] == [2] * 3
    assert labels.dropped_files == labels.dropped_objects == []


def test_an_image_named_like_a_list_has_its_labels(yolo):
    for suffix in (".png", ".txt"):
        (yolo / f"0000{suffix}").rename(yolo / f"test{suffix}")
    assert len(objects_of(yolo)[0]["test.png"]) == 2


@pytest.mark.parametrize(
    ("names", "expected"),
    [("[yes, no]", ["yes", "no"]), ("{0: 1, 1: 2.50}", ["1", "2.50"]), ("\n- a\n- ~", ["a", "~"])],
)
def test_class_names_are_the_text_of_the_file(yolo, names, expected):
    put_text(yolo / "data.yaml", f"nc: 2\nnames: {names}\n")
    assert [name for name, *_ in objects_of(yolo)[0]["0000.png"]] == expected


def test_contradictory_class_names_are_an_error(yolo):
    put_text(yolo / "data" / "predefined_classes.txt", "dog\nperson\n")  # labelImg's own
    assert [name for name, *_ in objects_of(yolo)[0]["0000.png"]] == ["disc", "square"]
    put_text(yolo / "more" / "classes.txt", "disc\nround\n")
    told = r"classes\.txt' and '.*' name different classes \(number 1 is 'square' and 'round'\): re"
    with pytest.raises(DatasetImportError, match=told):
        read(yolo)
    put_text(yolo / "more" / "classes.txt", "disc\nsquare\nround\n")
    with pytest.raises(DatasetImportError, match=r"number 2 is nothing and 'round'"):
        read(yolo)
    put_text(yolo / "data.yaml", "names: [a, b]")
    assert [name for name, *_ in objects_of(yolo)[0]["0000.png"]] == ["a", "b"]
    put_text(yolo / "other.yaml", "names: [b, a]")
    with pytest.raises(DatasetImportError, match=r"yaml' and '.*' name .*: give the file"):
        read(yolo)
    found = convert(yolo / "other.yaml", yolo.parent / "new", Options(fractions=(0.5, 0.5)))
    assert [item.name for item in found.labels.images[0].objects] == ["b", "a"]


def test_folders_with_class_names_of_their_own_are_one_dataset_after_they_were_imported(
    original, root, tmp_path
):
    """What the error about contradictory names says."""
    for number in range(4):
        name = ("disc", "square")[number % 2]
        put_image(original, root / name / f"{number}.png", number)
        put_text(root / name / f"{number}.txt", "0 0.5 0.5 0.2 0.2\n")
        put_text(root / name / "classes.txt", f"{name}\n")
    with pytest.raises(DatasetImportError, match="one by one into folders below PARTS"):
        read(root)
    for name in ("disc", "square"):
        convert(root / name, tmp_path / "parts" / name, Options(fractions=(0.5, 0.5)))
    whole = convert(tmp_path / "parts", tmp_path / "whole", Options())
    names = [item.name for image in whole.labels.images for item in image.objects]
    assert names == 2 * ["disc"] + 2 * ["square"]
    assert whole.sets == {"train": 2, "test": 2}


@pytest.mark.parametrize("width", [0, 0.004])
def test_a_box_without_a_width_is_named_as_such_and_not_as_swapped_corners(
    yolo, tmp_path, width, capsys
):
    put_text(yolo / "0000.txt", f"0 0.507131 0.5 {width} 0.2\n0 0.5 0.5 0.2 0.2\n")
    assert main(["import", str(yolo), str(tmp_path / "new")]) == 1
    out = capsys.readouterr().out
    assert "too small: object 1 (disc), " in out
    assert f": width {120 * width:g}, height 18, expected more than 1 pixel" in out
    assert "1 defect: too small 1" in out


@pytest.mark.parametrize("view", ["auto", "upright", "stored"])
def test_fractions_of_a_turned_photograph_are_of_the_chosen_view(yolo, tmp_path, view, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    (yolo / "0000.png").unlink()
    Image.new("RGB", SIZE).save(yolo / "0000.jpg", exif=exif)
    put_text(yolo / "0000.txt", "0 0.25 0.5 0.5 1\n")  # the left half of the labelled view
    given = ["import", str(yolo), str(tmp_path / "new"), "--exif-view", view]
    assert main([*given, "--split", "1"]) == 0
    assert ("1 images are turned by their EXIF" in capsys.readouterr().out) == (view == "auto")
    loaded, _ = samples.load(voc.find_images(tmp_path / "new", "trainval"))
    (sample,) = (s for s in loaded if s.record.image.suffix == ".jpg")
    expected = [0, 0, 90, 60] if view == "stored" else [0, 0, 45, 120]
    assert sample.boxes.round().astype(int).tolist() == [expected]


WORD = st.one_of(
    st.floats(-0.1, 1.1).map(str), st.sampled_from(("0", "1", "7", "1e-1", "nan", "x", "0,5"))
)
LINE = st.one_of(
    st.lists(WORD, min_size=1, max_size=9).map(" ".join),
    st.just("0 0.5 0.5 0.2 0.2"),
    st.sampled_from(("", "  ")),
)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(lines=st.lists(LINE, max_size=6), end=st.sampled_from(("\n", "\r\n")))
def test_every_line_of_a_label_file_is_an_object_or_named(made_yolo, lines, end):
    (made_yolo / "0000.txt").write_bytes(end.join(lines).encode())
    source = SourceFiles(made_yolo)
    found, problems = yolo_files.find(source)
    labels = yolo_files.read(source, found)
    (image,) = (image for image in labels.images if image.image.stem == "0000")
    assert len(image.objects) + len(labels.dropped_objects) == sum(bool(s.strip()) for s in lines)
    assert problems == []


@pytest.fixture(scope="module")
def made_yolo(original, tmp_path_factory):
    root = tmp_path_factory.mktemp("yolo")
    for number in range(2):
        put_image(original, root / f"000{number}.png", number)
        put_text(root / f"000{number}.txt", "0 0.5 0.5 0.2 0.2\n")
    put_text(root / "classes.txt", "disc\nsquare\n")
    return root


# --- VOC -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (
            "<polygon><x1>5</x1><y1>7</y1><x2>9</x2><y2>30</y2></polygon>"
            "<polygon><x1>50</x1><y1>7</y1><x2>60</x2><y2>20</y2></polygon>",
            (4, 6, 60, 30),
        ),
        (
            "<robndbox><cx>20</cx><cy>40</cy><w>20</w><h>10</h><angle>0</angle></robndbox>"
            "<robndbox><cx>60</cx><cy>40</cy><w>20</w><h>10</h><angle>0</angle></robndbox>",
            (9, 34, 70, 45),
        ),
        (BOX.format("1e1", "5.5", "2.5E1", "+30"), (9, 4, 25, 30)),
        (BOX.format(11, 11, 20, 20) + f"<part><name>head</name>{BOX.format(1, 1, 2, 2)}</part>",)
        + ((10, 10, 20, 20),),
    ],
)
def test_the_whole_of_an_object_is_read(original, root, shape, box):
    put_image(original, root / "0000.png")
    put_text(root / "0000.xml", xml(shape))
    assert objects_of(root)[0] == {"0000.png": [("cat", *box)]}


def test_a_mark_that_says_neither_yes_nor_no_is_named(original, root):
    for number, word in enumerate(("Unspecified", "maybe", "1")):
        put_image(original, root / f"000{number}.png")
        put_text(root / f"000{number}.xml", xml(BOX.format(1, 1, 9, 9), difficult=word))
    labels = read(root)[1]
    flags = [[item.difficult for item in image.objects] for image in labels.images]
    assert flags == [[False], [], [True]]
    assert "difficult must be 0 or 1, got 'maybe'" in labels.dropped_objects[0]


def test_deleted_objects_are_counted(original, root):
    put_image(original, root / "0000.png")
    put_text(
        root / "0000.xml",
        xml(BOX.format(1, 1, 9, 9), BOX.format(5, 5, 9, 9) + "<deleted>1</deleted>"),
    )
    found, labels = objects_of(root)
    assert len(found["0000.png"]) == 1
    assert labels.notes == {"objects that are marked as deleted were ignored": 1}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not XML"),
        ("<annotations><image><box/></image></annotations>", "is a <annotations>, expected an"),
    ],
)
def test_other_xml_files_with_objects_are_named(original, root, text, reason):
    put_image(original, root / "0000.png")
    put_text(root / "0000.xml", xml(BOX.format(1, 1, 9, 9)))
    put_text(root / "other.xml", text)
    put_text(root / "pom.xml", "<project><name/></project>")
    (dropped,) = read(root)[1].dropped_files
    assert f"other.xml' {reason}" in dropped


SHAPE = st.one_of(
    st.tuples(*[st.one_of(st.integers(-9, 130), st.sampled_from(("", "x", "nan", "0.5")))] * 4).map(
        lambda corners: BOX.format(*corners)
    ),
    st.sampled_from(
        ("", "<bndbox/>", "<polygon/>", "<name>dog</name>", "<polygon><x1>1</x1></polygon>")
    ),
)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(shapes=st.lists(st.lists(SHAPE, max_size=3).map("".join), max_size=6))
def test_every_object_of_an_xml_file_is_imported_or_named(made_yolo, shapes):
    put_text(made_yolo / "0000.xml", xml(*shapes))
    source = SourceFiles(made_yolo)
    found, problems = voc_files.find(source)
    labels = voc_files.read(source, found)
    assert len(labels.images[0].objects) + len(labels.dropped_objects) == len(shapes)
    assert problems == labels.dropped_files == []


# --- COCO ----------------------------------------------------------------------------------------


def coco(images, annotations, categories=((1, "cat"), (2, "dog"))):
    return {
        "images": [{"id": i, "file_name": name, "width": 120, "height": 90} for i, name in images],
        "annotations": [
            {"id": n, "image_id": i, "category_id": 1, "bbox": [0, 0, 9, 9], **more}
            for n, (i, more) in enumerate(annotations)
        ],
        "categories": [{"id": i, "name": name} for i, name in categories],
    }


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (coco([(1, "0000.png"), (1, "0001.png")], [(1, {})]), "id 1 is that of '0000.png' and of"),
        (coco([(1, "0000.png")], [(1, {})], [(1, "cat"), (1, "dog")]), "id 1 is that of 'cat' and"),
    ],
)
def test_an_id_that_means_two_things_is_an_error(original, root, document, message):
    for number in range(2):
        put_image(original, root / f"000{number}.png")
    put_text(root / "a.json", json.dumps(document))
    with pytest.raises(DatasetImportError, match=message):
        read(root)


def test_a_missing_image_does_not_give_its_objects_to_another_of_its_name(original, root):
    put_image(original, root / "val" / "0000.png")
    images = [(1, "train/0000.png"), (2, "val/0000.png")]
    for order in (images, images[::-1]):
        put_text(
            root / "a.json", json.dumps(coco(order, [(1, {}), (2, {"category_id": 2}), (1, {})]))
        )
        found, labels = objects_of(root)
        assert found == {"val/0000.png": [("dog", 0, 0, 9, 9)]}
        (dropped,) = labels.dropped_files
        assert "image 'train/0000.png' is not below" in dropped
        assert dropped.endswith("it has 2 objects")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"images": [', "is not JSON"),
        ('{"images": [], "annotations": []}', "has no list of categories"),
    ],
)
def test_other_json_files_with_annotations_are_named(original, root, text, reason):
    put_image(original, root / "0000.png")
    put_text(root / "a.json", json.dumps(coco([(1, "0000.png")], [(1, {})])))
    put_text(root / "b.json", text)
    put_text(root / "settings.json", "{}")
    (dropped,) = read(root)[1].dropped_files
    assert f"b.json' {reason}" in dropped
    (root / "a.json").unlink()
    with pytest.raises(DatasetImportError, match=rf"no labels that can be read.*b\.json' {reason}"):
        read(root)


def test_a_crowd_is_what_says_so(original, root):
    put_image(original, root / "0000.png")
    marks = [(1, {"iscrowd": value}) for value in (0, "0", False, 1, "1", True)]
    put_text(root / "a.json", json.dumps(coco([(1, "0000.png")], marks)))
    (image,) = read(root)[1].images
    assert [item.difficult for item in image.objects] == [False] * 3 + [True] * 3


# --- images --------------------------------------------------------------------------------------


def test_each_image_is_decoded_once(original, tmp_path, monkeypatch):
    decoded, decode = Counter(), image_files.read

    def count(path):
        decoded[path.name] += 1
        return decode(path)

    monkeypatch.setattr(image_files, "read", count)
    assert main(["import", str(original), str(tmp_path / "new")]) == 0
    assert decoded == dict.fromkeys((f"000{i}.png" for i in range(4)), 1)


# --- image sets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", ["0001\n", "0001.png\r\n", "0001  1\n", "JPEGImages/0001.png\n"])
def test_a_single_list_keeps_its_images_apart(original, root, lines):
    for number in range(3):
        put_image(original, root / f"000{number}.png", number)
        put_text(root / f"000{number}.xml", xml(BOX.format(1, 1, 9, 9)))
    put_text(root / "test.txt", lines)
    found = convert(root, root.parent / "new", Options())
    assert found.sets == {"train": 2, "test": 1}
    assert found.division == "as in the source, 2 in no set are in train"
    (record,) = voc.find_images(root.parent / "new", "test")
    assert record.image_id == "0001"


def test_a_yaml_file_names_folders_and_lists_of_the_sets(yolo):
    for number, part in enumerate(("first", "second", "third")):
        (yolo / part).mkdir()
        for suffix in (".png", ".txt"):
            path = yolo / f"000{number}{suffix}"
            path.rename(yolo / part / path.name)
    (yolo.parent / "first").mkdir()  # is not meant
    put_text(yolo / "tested.txt", "/home/somebody/yolo/third/0002.png\n")
    put_text(
        yolo / "data.yaml",
        "path: /home/somebody/yolo\ntrain: ../first\nval: [second]\ntest: tested.txt\n"
        "names: [disc, square]\n",
    )
    assert convert(yolo, yolo.parent / "new", Options()).sets == {"train": 1, "val": 1, "test": 1}
