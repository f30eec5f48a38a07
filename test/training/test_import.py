# SPDX-License-Identifier: Apache-2.0
"""Datasets as labelling tools export them become VOC-format folders with every object."""

import json
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_dataset import ENVIRONMENT, make_set

from training.data import samples, voc
from training.importing import coco_files
from training.importing.convert import Options, convert, read
from training.importing.files import SourceFiles
from training.importing.labels import DatasetImportError
from training.voc import main

SIZE = (120, 90)
CLASSES = ("disc", "square")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("original") / "set", images=8, size=SIZE)


def files_of(original):
    """For each image: set, image, XML file, annotation."""
    for name in ("trainval", "test"):
        for record in voc.find_images(original, name):
            yield name, record.image, record.annotation, voc.read_annotation(record.annotation)


def put(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def coco(entries, names=CLASSES):
    """A COCO document of images and their annotations."""
    images, annotations = [], []
    for number, (file_name, annotation) in enumerate(entries):
        width, height = SIZE
        images.append({"id": number, "file_name": file_name, "width": width, "height": height})
        for name, (x1, y1, x2, y2) in zip(annotation.names, annotation.boxes.tolist(), strict=True):
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": names.index(name) + 1}
                | {"bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}
            )
    categories = [{"id": 0, "name": "objects"}]
    categories += [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def yolo(annotation, shape="box"):
    lines = []
    for name, box in zip(annotation.names, annotation.boxes / [*SIZE, *SIZE], strict=True):
        x1, y1, x2, y2 = box.tolist()
        values = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
        if shape == "polygon":
            values = [x1, y1, x2, y1, x2, y2, x1, y2]
        lines.append(" ".join([str(CLASSES.index(name)), *(f"{v:.6f}" for v in values)]))
    return "\n".join(lines) + "\n"


# --- layouts: a function for each writes the original, and returns whether it keeps the sets ----


def beside(original, root):
    for _, image, file, _ in files_of(original):
        put(image, root / image.name)
        put(file, root / file.name)
    return False


def label_studio_voc(original, root):
    for _, image, file, _ in files_of(original):
        put(image, root / "images" / image.name)
        put(file, root / "Annotations" / file.name)
    return False


def vott(original, root):
    for name, image, file, _ in files_of(original):
        part = root / "data" / ("train" if name == "trainval" else "valid")
        put(image, part / "images" / f"ride.mp4#t={image.name}")
        put(file, part / "annots" / f"ride.mp4#t={file.name}")
    return True


def roboflow_voc(original, root):
    for name, image, file, _ in files_of(original):
        part = root / ("train" if name == "trainval" else "test")
        put(image, part / f"{image.stem}_png.rf.0a1b{image.suffix}")
        put(file, part / f"{image.stem}_png.rf.0a1b.xml")
    return True


def cvat_voc(original, root):
    lists = {"train": [], "val": []}
    for name, image, file, _ in files_of(original):
        task = f"task {int(image.stem) % 2}"
        image_name = f"{int(image.stem) // 2}"  # the same in both tasks
        put(image, root / "JPEGImages" / task / f"{image_name}{image.suffix}")
        put(file, root / "Annotations" / task / f"{image_name}.xml")
        lists["train" if name == "trainval" else "val"].append(f"{task}/{image_name}")
    for name, lines in lists.items():
        path = root / "ImageSets" / "Main" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\r\n".join(lines), encoding="utf-8-sig")
    return True


def coco_official(original, root):
    (root / "annotations").mkdir(parents=True)
    for name, folder in (("trainval", "train2017"), ("test", "val2017")):
        entries = []
        for of_set, image, _, annotation in files_of(original):
            if of_set == name:
                put(image, root / folder / image.name)
                entries.append((image.name, annotation))
        (root / "annotations" / f"instances_{folder}.json").write_text(coco(entries))
    return True


def coco_one_folder(original, root):
    for name, title in (("trainval", "train"), ("test", "val")):
        entries = []
        for of_set, image, _, annotation in files_of(original):
            if of_set == name:
                put(image, root / "images" / image.name)
                entries.append((image.name, annotation))
        (root / f"instances_{title}.json").write_text(coco(entries))
    return True


def voc_with_sets(original, root):
    shutil.copytree(original, root)
    return True


def label_studio_coco(original, root):
    entries = []
    for _, image, _, annotation in files_of(original):
        put(image, root / "images" / image.name)
        entries.append((f"images\\{image.name}", annotation))
    (root / "result.json").write_text(coco(entries))
    return False


def ultralytics(original, root, shape="box"):
    for name, image, _, annotation in files_of(original):
        part = "train" if name == "trainval" else "val"
        put(image, root / "images" / part / image.name)
        labels = root / "labels" / part / f"{image.stem}.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text(yolo(annotation, shape))
    (root / "data.yaml").write_text("path: .\ntrain: images/train\nnames: {0: disc, 1: square}\n")
    return True


def yolo_polygons(original, root):
    return ultralytics(original, root, "polygon")


def cvat_yolo(original, root):
    lists = {"train": [], "valid": []}
    for name, image, _, annotation in files_of(original):
        put(image, root / "obj_train_data" / image.name)
        (root / "obj_train_data" / f"{image.stem}.txt").write_text(yolo(annotation))
        part = "train" if name == "trainval" else "valid"
        lists[part].append(f"data/obj_train_data/{image.name}")
    for name, lines in lists.items():
        (root / f"{name}.txt").write_text("\n".join(lines))
    (root / "obj.names").write_text("disc\nsquare\n")
    return True


def label_img_yolo(original, root):
    for _, image, _, annotation in files_of(original):
        put(image, root / image.name)
        (root / f"{image.stem}.txt").write_text(yolo(annotation))
    (root / "classes.txt").write_text("disc\nsquare\n")
    return False


LAYOUTS = (
    *(beside, label_studio_voc, vott, roboflow_voc, cvat_voc, coco_official, label_studio_coco),
    *(coco_one_folder, voc_with_sets),
    *(ultralytics, yolo_polygons, cvat_yolo, label_img_yolo),
)


def described(annotation):
    """Comparable content: YOLO has six digits."""
    boxes = np.round(annotation.boxes * 20).astype(int).tolist()
    return tuple(sorted(zip(annotation.names, map(tuple, boxes), strict=True)))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_object_of_a_layout_is_imported_with_its_set(original, tmp_path, layout, capsys):
    keeps_sets = layout(original, tmp_path / "export")
    before = {p: p.read_bytes() for p in (tmp_path / "export").rglob("*") if p.is_file()}
    assert main(["import", str(tmp_path / "export"), str(tmp_path / "new")]) == 0
    out = capsys.readouterr().out
    assert "16 objects in 8 images" in out
    assert "no defects" in out
    after = {p: p.read_bytes() for p in (tmp_path / "export").rglob("*") if p.is_file()}
    assert after == before

    sets = {p.stem for p in (tmp_path / "new" / "ImageSets" / "Main").glob("*.txt")}
    validation = "test" if "test" in sets and keeps_sets else "val"
    imported = Counter()
    for name in sets - {"trainval"}:
        for record in voc.find_images(tmp_path / "new", name):
            content = described(voc.read_annotation(record.annotation))
            of_set = ("trainval" if name != validation else "test") if keeps_sets else None
            imported[content, record.image.read_bytes(), of_set] += 1
    assert imported == Counter(
        (described(annotation), image.read_bytes(), name if keeps_sets else None)
        for name, image, _, annotation in files_of(original)
    )


def test_an_imported_folder_is_loaded_for_training(original, tmp_path):
    label_studio_coco(original, tmp_path / "export")
    convert(tmp_path / "export", tmp_path / "new", Options(fractions=(0.5, 0.5), link=True))
    loaded, classes = samples.load(voc.find_images(tmp_path / "new", "trainval+test"))
    assert classes == CLASSES
    assert len(loaded) == 8
    assert all((tmp_path / "new" / "JPEGImages" / f"000{i}.png").is_symlink() for i in range(8))


# --- objects that are no boxes -------------------------------------------------------------------

XML = "<annotation><size><width>120</width><height>90</height></size>{}</annotation>"
NAMED = "<object><name>cat</name>{}</object>"
BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
ROTATION = "<attributes><attribute><name>rotation</name><value>90</value></attribute></attributes>"


@pytest.mark.parametrize(
    ("inside", "box", "text"),
    [
        (BOX.format(1, 2, 10, 20) + BOX.format(5, 1, 30, 9), [0, 0, 30, 20], "several boxes"),
        (BOX.format(41, 31, 60, 40) + ROTATION, [44.5, 25, 55.5, 45], "rotated boxes"),
        ("<polygon><x1>5</x1><y1>7</y1><x2>9</x2><y2>30</y2></polygon>", [4, 6, 9, 30], "polygons"),
        (
            "<polygon><pt><x>5</x><y>7</y></pt><pt><x>9</x><y>30</y></pt></polygon>",
            [4, 6, 9, 30],
            "polygons",
        ),
        (
            "<robndbox><cx>50</cx><cy>40</cy><w>20</w><h>10</h><angle>1.570796326795</angle></robndbox>",
            [44, 29, 55, 50],
            "rotated boxes",
        ),
    ],
)
def test_other_shapes_in_voc_become_enclosing_boxes_and_are_counted(
    original, tmp_path, inside, box, text, capsys
):
    beside(original, tmp_path / "export")
    (tmp_path / "export" / "0003.xml").write_text(XML.format(NAMED.format(inside)))
    assert main(["import", str(tmp_path / "export"), str(tmp_path / "new")]) == 0
    assert f"1 {text}" in capsys.readouterr().out.replace("objects with ", "")
    found = voc.read_annotation(tmp_path / "new" / "Annotations" / "0003.xml").boxes[0]
    assert found.tolist() == pytest.approx(box, abs=0.6)


def test_what_cannot_be_imported_is_named_with_file_object_and_reason(original, tmp_path, capsys):
    root = tmp_path / "export"
    beside(original, root)
    (root / "0000.xml").write_text(XML.format("<object>" + BOX.format(1, 1, 9, 9) + "</object>"))
    (root / "0001.xml").write_text(XML.format(NAMED.format(BOX.format("a", 1, 9, 9))))
    (root / "0002.xml").write_text("<annotation>")
    (root / "0003.png").unlink()
    (root / "0004.xml").unlink()
    (root / "0005.png").write_bytes(b"no image")
    assert main(["import", str(root), str(tmp_path / "new")]) == 1
    out = capsys.readouterr().out
    assert f"'{root}/0000.xml', object 1: has no name" in out
    assert f"'{root}/0001.xml', object 1: xmin must be a number, got 'a'" in out
    assert f"'{root}/0002.xml' is not XML" in out
    assert f"'{root}/0003.xml' has no image '0003.*'" in out
    assert f"'{root}/0005.png' is not an image (8 bytes); it has 2 readable objects" in out
    assert f"'{root}/0004.png' has no annotation" in out
    assert "2 objects not imported" in out
    assert "3 annotated images not imported" in out


def test_yolo_lines_that_cannot_be_objects_are_named(original, tmp_path, capsys):
    label_img_yolo(original, tmp_path / "export")
    lines = ["0 0.5 0.5 0.2 0.2", "7 0.5 0.5 0.2 0.2", "1 60 45 20 20", "1 0.5 0.5 0.2", "1 0.5"]
    (tmp_path / "export" / "0000.txt").write_text("\n".join(lines))
    (tmp_path / "export" / "0001.txt").unlink()
    assert main(["import", str(tmp_path / "export"), str(tmp_path / "new")]) == 1
    out = capsys.readouterr().out
    assert "0000.txt', line 2: class 7 has no name, expected 0 to 1" in out
    assert "line 3: expected fractions of the image, 0 to 1, got 60 45 20 20" in out
    assert "4 objects not imported" in out
    assert "1 images without a label file are background" in out


def test_label_files_without_an_image_of_their_own_are_named(original, tmp_path, capsys):
    root = tmp_path / "export"
    label_img_yolo(original, root)
    (root / "0000.png").unlink()
    (root / "numbers.txt").write_text("1 2 3")  # no labels
    (root / "more").mkdir()
    shutil.copy(root / "0001.txt", root / "more" / "0001.txt")
    assert main(["import", str(root), str(tmp_path / "new")]) == 1
    out = capsys.readouterr().out
    assert f"'{root}/0000.txt' has no image of its name; it has 2 objects" in out
    assert f"'{root}/more/0001.txt' is for '{root}/0001.png'" in out
    assert "2 annotated images not imported" in out


def test_an_image_that_a_coco_file_lists_twice_has_all_objects(original, tmp_path):
    label_studio_coco(original, tmp_path)
    document = json.loads((tmp_path / "result.json").read_text())
    document["images"].append({**document["images"][0], "id": 99})
    document["annotations"][0]["image_id"] = 99
    (tmp_path / "result.json").write_text(json.dumps(document))
    images = read(tmp_path)[1].images
    assert [len(image.objects) for image in images] == [2] * 8


def test_a_mask_of_the_same_name_is_not_taken_for_the_image(original, tmp_path):
    root = tmp_path / "export"
    for _, image, file, _ in files_of(original):
        put(image, root / "JPEGImages" / image.name)
        put(image, root / "SegmentationClass" / f"{image.stem}.bmp")
        put(file, root / "Annotations" / file.name)
        path = root / "Annotations" / file.name
        path.write_text(path.read_text().replace(".jpg</filename>", ".png</filename>"))
    labels = read(root)[1]
    assert [image.image.parent.name for image in labels.images] == ["JPEGImages"] * 8
    assert len(labels.unlabelled) == 8


def test_linked_folders_are_followed_but_not_in_circles(original, tmp_path):
    label_studio_voc(original, tmp_path / "elsewhere")
    root = tmp_path / "export"
    root.mkdir()
    (root / "data").symlink_to(tmp_path / "elsewhere")
    (root / "data" / "circle").symlink_to(root)
    assert len(read(root)[1].images) == 8


COORDINATE = st.one_of(st.integers(-9, 130), st.just("x"), st.none(), st.just(float("inf")))
ANNOTATION = st.fixed_dictionaries(
    {"image_id": st.integers(0, 4), "category_id": st.integers(0, 3)},
    optional={
        "bbox": st.lists(COORDINATE, max_size=5),
        "segmentation": st.lists(st.lists(st.integers(0, 100), max_size=7), max_size=2),
        "iscrowd": st.booleans(),
        "attributes": st.fixed_dictionaries({"rotation": st.integers(0, 360)}),
    },
)


@settings(max_examples=200, deadline=None)
@given(annotations=st.lists(ANNOTATION, max_size=8))
def test_every_annotation_of_a_coco_file_is_an_object_or_named(original, annotations):
    categories = [{"id": 1, "name": "disc"}, {"id": 2, "name": "square"}]
    images = [{"id": i, "file_name": f"000{i}.png"} for i in range(4)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    source = SourceFiles(original)
    labels = coco_files.read(source, {original / "a.json": document})
    objects = sum(len(image.objects) for image in labels.images)
    assert objects + len(labels.dropped_objects) == len(annotations)
    assert len(labels.images) == 4


# --- errors -------------------------------------------------------------------------------------


def test_a_folder_of_unknown_format_is_an_error_that_leaves_nothing(tmp_path, capsys):
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "notes.json").write_text("{}")
    assert main(["import", str(tmp_path / "export"), str(tmp_path / "new")]) == 2
    assert "expected VOC XML, COCO JSON or YOLO text files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_a_target_with_content_or_inside_the_source_is_refused(original, tmp_path):
    beside(original, tmp_path / "export")
    with pytest.raises(DatasetImportError, match="is not empty"):
        convert(tmp_path / "export", original, Options())
    with pytest.raises(DatasetImportError, match="is inside of"):
        convert(tmp_path / "export", tmp_path / "export" / "new", Options())
    with pytest.raises(DatasetImportError, match="no such file or folder"):
        convert(tmp_path / "nothing", tmp_path / "new", Options())


def test_two_formats_need_a_choice(original, tmp_path):
    beside(original, tmp_path)
    label_img_yolo(original, tmp_path)
    with pytest.raises(DatasetImportError, match="--format voc or yolo"):
        read(tmp_path)
    assert read(tmp_path, "yolo")[0] == "yolo"


def test_yolo_without_class_names_is_an_error(original, tmp_path):
    label_img_yolo(original, tmp_path)
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(DatasetImportError, match="no class names"):
        read(tmp_path)


def test_training_on_another_layout_names_the_command(original, tmp_path):
    beside(original, tmp_path / "my export")
    with pytest.raises(voc.VOCError, match=r"training\.voc import '.*my export' NEW_FOLDER"):
        voc.find_images(tmp_path / "my export", "trainval")


def test_the_import_runs_as_a_command(original, tmp_path):
    beside(original, tmp_path / "export")
    command = [
        sys.executable,
        "-m",
        "training.voc",
        "import",
        "export",
        "new",
        "--split",
        "0.5,0.5",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "train 4, test 4" in done.stdout
    assert "train: python -m training.train --data new --out RUN" in done.stdout
    done = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "error: 'new' exists and is not empty\n")
