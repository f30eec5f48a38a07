# SPDX-License-Identifier: Apache-2.0
"""The page of a dataset shows its defects first, and which objects no default box fits."""

import base64
import re
import subprocess
import sys
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from made_dataset import ENVIRONMENT, make_set
from PIL import Image

from ssd_ros.model.config import PAPER_VOC
from ssd_ros.model.default_boxes import default_boxes
from training.data import voc_check, voc_xml
from training.data.voc_xml import VOCObject
from training.evaluation import data_page
from training.trainer import box_scales
from training.voc import main

SIZE = (120, 90)


class Page(HTMLParser):
    """Titles, captions, rows of tables, images and texts of a page, in their order."""

    def __init__(self, text):
        super().__init__()
        self.parts, self._open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.parts.append(("img", dict(attrs)["src"]))
        elif tag not in ("meta", "path", "use"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if data.strip() and self._open:
            self.parts.append((self._open[-1], " ".join(data.split())))

    def of(self, tag):
        return [text for name, text in self.parts if name == tag]


@pytest.fixture
def root(tmp_path):
    return make_set(tmp_path / "set", images=8, size=SIZE)


def label(root, image_id, *objects, size=SIZE):
    data = voc_xml.annotation(f"{image_id}.png", size, objects)
    (root / "Annotations" / f"{image_id}.xml").write_bytes(data)


def page_of(root):
    return Page(data_page.page(root, voc_check.check(root)))


def pixels_of(source):
    data = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def is_red(pixels):
    blue, green, red = np.moveaxis(pixels.astype(int), -1, 0)
    return (red > green + 40) & (red > blue + 40)  # JPEG blurs the colours of thin lines


def test_a_sound_dataset_shows_counts_and_its_images(root):
    page = page_of(root)
    assert "8 images, 16 objects, no defects" in " ".join(page.of("p"))
    assert page.of("h2") == ["Classes", "Images"]
    cells = page.of("td")
    assert cells[:3] == ["disc", "8", "8"]
    assert len(page.of("img")) == 8
    assert "0000.png: disc, square" in page.of("figcaption")


def test_defects_are_first_each_kind_among_the_first_images(root):
    inside = VOCObject("square", (10, 10, 50, 60))
    for i in range(5):
        label(root, f"{i:04d}", inside, VOCObject("disc", (90, 10, 130, 40)))
    label(root, "0006", inside, VOCObject("disc", (60, 80, 60, 20)))
    page = page_of(root)
    assert page.of("h2") == ["Defects", "Classes", "Images"]
    assert page.of("td")[:4] == ["outside the image", "5", "swapped corners", "1"]
    captions = page.of("figcaption")
    assert captions[0].startswith("0000.png: disc, square; outside the image: object 2 (disc)")
    assert captions[1].startswith("0006.png: disc, square; swapped corners: object 2 (disc)")
    assert {caption.partition(".")[0] for caption in captions[6:]} == {"0005", "0007"}
    assert "6 defects" in page.of("b")


def test_the_box_with_the_defect_is_red_and_the_other_is_not(root):
    cv2.imwrite(str(root / "JPEGImages" / "0000.png"), np.full((90, 120, 3), 120, np.uint8))
    label(
        root,
        "0000",
        VOCObject("square", (10, 30, 40, 60)),
        VOCObject("square", (80, 30, 125, 60)),
    )
    red = is_red(pixels_of(page_of(root).of("img")[0]))
    assert red[45:58, 78:84].any()  # its left side, below its name
    assert not red[45:58, :70].any()


@pytest.mark.parametrize(
    ("box", "kind"),
    [((80, 30, 110, 60), "duplicate object"), ((400, 30, 401.5, 60), "not in the loss")],
)
def test_a_box_with_any_kind_of_defect_is_red(root, box, kind):
    size = (600, 90)  # two pixels for one of the network's input, and about two for one of the page
    cv2.imwrite(str(root / "JPEGImages" / "0000.png"), np.full((90, 600, 3), 120, np.uint8))
    label(root, "0000", *(VOCObject("disc", b) for b in ((80, 30, 110, 60), box)), size=size)
    report = voc_check.check(root)
    assert (kind, 2) in {(defect.kind, defect.number) for defect in report.defects}
    red = is_red(pixels_of(Page(data_page.page(root, report)).of("img")[0]))
    left = int(box[0] * red.shape[1] / size[0])
    assert red[20:30, left - 3 : left + 3].any()


def test_a_box_of_the_stored_view_is_shown_in_the_upright_image(root):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    (root / "JPEGImages" / "0000.png").unlink()
    Image.new("RGB", SIZE, (120, 120, 120)).save(root / "JPEGImages" / "0000.jpg", exif=exif)
    label(root, "0000", VOCObject("disc", (80, 10, 110, 30)))
    page = page_of(root)
    number = next(i for i, text in enumerate(page.of("figcaption")) if text.startswith("0000.jpg"))
    red = is_red(pixels_of(page.of("img")[number]))  # the colour of the first class
    assert red.shape == (120, 90)
    assert red[90:105, 58:63].any()
    assert not red[:60].any()


def test_objects_that_no_default_box_fits_are_counted_for_each_class(root):
    config = box_scales.with_scales(PAPER_VOC, "voc", ())
    # The very shape of a default box far from the borders, and a thin one like none.
    centre_x, centre_y, w, h = default_boxes(config)[38 * 38 * 4 + 9 * 19 * 6 + 9 * 6]
    fits = (centre_x - w / 2, centre_y - h / 2, centre_x + w / 2, centre_y + h / 2)
    fitting = VOCObject("disc", tuple(float(v * s) for v, s in zip(fits, SIZE * 2, strict=True)))
    thin = VOCObject("square", (2.0, 2.0, SIZE[0] - 2.0, 5.0))
    for i in range(8):
        label(root, f"{i:04d}", *([fitting] if i < 3 else [thin]))
    cells = page_of(root).of("td")
    assert cells[0:3] == ["disc", "3", "3"]
    assert cells[4] == "0 (0%)"
    square = cells.index("square")
    assert cells[square + 1 : square + 3] == ["5", "5"]
    assert cells[square + 4 : square + 6] == ["5 (100%)", "5 (100%)"]


def test_unreadable_files_do_not_end_the_page(root):
    (root / "JPEGImages" / "0000.png").write_bytes(b"no image")
    (root / "Annotations" / "0001.xml").write_text("<annotation>")
    (root / "JPEGImages" / "0002.png").unlink()
    page = page_of(root)
    text = " ".join(page.of("pre"))
    for part in ("0000.png' is not an image", "0001.xml' is not XML", "no JPEGImages/0002."):
        assert part in text


def test_names_are_text_and_not_html(root):
    label(root, "0000", VOCObject("<b>&$x$", (10, 10, 50, 60)))
    page = page_of(root)
    assert "<b>&$x$" in page.of("td")
    assert "b" not in {tag for tag, text in page.parts if text.startswith("&$x$")}


def test_a_large_dataset_shows_a_selection_with_every_class(root, monkeypatch):
    monkeypatch.setattr(data_page, "_SHOWN", 2)
    for i in range(7):
        label(root, f"{i:04d}", VOCObject("disc", (10, 10, 50, 60)))
    label(root, "0007", VOCObject("square", (10, 10, 50, 60)))
    captions = page_of(root).of("figcaption")
    assert captions[0] == "0007.png: square"
    assert re.fullmatch(r"000[0-6]\.png: disc", captions[1])


def test_the_command_writes_the_page(root, tmp_path):
    command = [sys.executable, "-m", "training.voc", "check", str(root), "--html", "page.html"]
    done = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"page\.html: \d+\.\d MB", done.stdout)
    text = (tmp_path / "page.html").read_text()
    assert "8 images, 16 objects" in " ".join(Page(text).of("p"))
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text)  # it opens offline
    assert main(["check", str(root), "--html", str(root)]) == 2
