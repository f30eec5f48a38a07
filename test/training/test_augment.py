# SPDX-License-Identifier: Apache-2.0
"""Training samples: what the network sees, and where the boxes go."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from made_dataset import COLOURS, make_set
from torchvision import tv_tensors
from torchvision.transforms import v2

from ssd_ros.detector import network_input
from ssd_ros.image import Image
from ssd_ros.io import image_files
from training.data import augment, batches, samples, voc
from training.data.augment import Augment
from training.data.dataset import DetectionDataset

FILL = (123, 117, 104)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def trainval(root):
    return samples.load(voc.find_images(root, "trainval"))[0]


def test_without_augmentation_the_network_sees_what_it_will_see_on_the_robot(trainval):
    dataset = DetectionDataset(trainval, Augment("none", FILL, 300), seed=0)
    for number in range(4):
        pixels, _, _, name = dataset[number]
        expected = network_input([Image(image_files.read(Path(name)))])[0]
        assert np.array_equal(pixels.numpy(), expected)


@pytest.mark.parametrize("kind", ["none", "light", "ssd"])
def test_boxes_follow_their_objects(trainval, kind):
    """The middle of each box has the colour of its class, whatever was done to the image."""
    dataset = DetectionDataset(trainval, Augment(kind, FILL, 300), seed=1)
    checked = 0
    for number in range(30):
        pixels, boxes, labels, _ = dataset[number]
        assert pixels.shape == (300, 300, 3)
        assert pixels.dtype == torch.uint8
        assert boxes.min() >= 0
        assert boxes.max() <= 1
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        for box, label in zip(boxes, labels, strict=True):
            x, y = ((box[:2] + box[2:]) / 2 * 300).long().tolist()
            red, _, blue = pixels[y, x].int().tolist()
            is_disc = list(COLOURS)[label] == "disc"  # drawn as BGR
            assert (red > blue) == is_disc
            checked += 1
    assert checked >= 30


def test_the_paper_s_augmentation_varies_the_size_of_objects(trainval):
    dataset = DetectionDataset(trainval, Augment("ssd", FILL, 300), seed=1)
    areas = torch.cat(
        [(b[:, 2:] - b[:, :2]).prod(1) for _, b, _, _ in map(dataset.__getitem__, range(30))]
    )
    plain = DetectionDataset(trainval, Augment("none", FILL, 300), seed=1)
    fixed = torch.cat(
        [(b[:, 2:] - b[:, :2]).prod(1) for _, b, _, _ in map(plain.__getitem__, range(30))]
    )
    assert areas.min() < fixed.min() / 2
    assert areas.max() > fixed.max() * 1.5


def test_an_image_without_objects_passes_through_every_augmentation():
    image = np.full((60, 80, 3), 200, np.uint8)
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    for seed in range(20):
        torch.manual_seed(seed)
        pixels, boxes, labels = Augment("ssd", FILL, 300)(image, *nothing)
        assert pixels.shape == (300, 300, 3)
        assert boxes.shape == (0, 4)
        assert labels.shape == (0,)


def test_the_canvas_of_an_expansion_is_bounded_and_boxes_still_follow(monkeypatch):
    image = np.zeros((900, 1600, 3), np.uint8)
    image[300:600, 400:1200] = 255
    box, label = np.array([[400, 300, 1200, 600]], np.float32), np.zeros(1, np.int64)
    sizes = []
    pad = v2.RandomZoomOut.transform

    def observed(self, inpt, params):
        result = pad(self, inpt, params)
        sizes.append(result.shape[-2:].numel() if isinstance(inpt, tv_tensors.Image) else 0)
        return result

    monkeypatch.setattr(v2.RandomZoomOut, "transform", observed)
    monkeypatch.setattr(augment, "MAX_CANVAS", 1_000_000)
    monkeypatch.setattr(augment, "_IoUCrop", v2.Identity)
    for seed in range(20):
        torch.manual_seed(seed)
        pixels, boxes, _ = Augment("ssd", (0, 0, 0), 300)(image, box, label)
        bright = (pixels.float().mean(dim=2) > 60).nonzero()
        seen = torch.cat((bright.min(dim=0).values.flip(0), bright.max(dim=0).values.flip(0) + 1))
        torch.testing.assert_close(boxes[0] * 300, seen.float(), atol=1.6, rtol=0)
    assert len(sizes) > 10
    assert max(sizes) <= 1_010_000


def test_an_image_of_a_few_pixels_passes_through_every_augmentation():
    for height, width in ((1, 1), (2, 40), (3, 3)):
        box = np.array([[0, 0, width, height]], np.float32)
        for seed in range(20):
            torch.manual_seed(seed)
            image = np.full((height, width, 3), 200, np.uint8)
            pixels, _, _ = Augment("ssd", FILL, 300)(image, box, np.zeros(1, np.int64))
            assert pixels.shape == (300, 300, 3)


def test_degenerate_boxes_are_ignored_and_counted(root, tmp_path):
    bad = make_set(tmp_path / "bad", images=2)
    path = bad / "Annotations" / "0000.xml"
    text = path.read_text()
    path.write_text(
        text.replace(
            "</annotation>",
            text[text.index("<object>") : text.index("</object>")] + "</object></annotation>",
        )
        .replace("<xmax>", "<xmax>0", 1)
        .replace("<xmin>", "<xmin>999", 1)
    )
    trainval, _ = samples.load(voc.find_images(bad, "trainval"))
    assert len(trainval[0].labels) == 3
    assert samples.invalid_boxes(trainval) == {str(path): 1}
    _, boxes, labels, _ = DetectionDataset(trainval, Augment("none", FILL, 300), 0)[0]
    assert len(boxes) == len(labels) == 2


def test_an_unknown_class_is_refused_with_its_file(root):
    with pytest.raises(voc.VOCError, match=r"\.xml' has the class 'square', expected one of disc"):
        samples.load(voc.find_images(root, "trainval"), ["disc"])


def test_a_set_without_a_single_object_is_refused(tmp_path):
    bare = make_set(tmp_path / "bare", images=2)
    for path in (bare / "Annotations").iterdir():
        path.write_text("<annotation/>")
    with pytest.raises(voc.VOCError, match="none of the 1 images has an object"):
        samples.load(voc.find_images(bare, "trainval"))


# --- order and chance --------------------------------------------------------------------------


def flat(batch):
    return [batch.images, batch.boxes, batch.labels]


def run(trainval, first, last, batch, **options):
    dataset = DetectionDataset(trainval, Augment("ssd", FILL, 300), seed=3)
    with batches.stream(dataset, first, last, batch, **options) as stream:
        return list(stream)


def test_each_epoch_takes_every_image_once_in_an_order_of_its_own(trainval):
    dataset = DetectionDataset(trainval, Augment("none", FILL, 300), seed=0)
    epochs = [[dataset[e * 4 + i][3] for i in range(4)] for e in range(6)]
    assert all(len(set(epoch)) == 4 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


@pytest.mark.training
def test_a_sample_is_the_same_for_any_workers_processes_and_restarts(trainval):
    whole = run(trainval, 0, 3, 4)
    for others in (
        run(trainval, 0, 3, 4, workers=2),
        run(trainval, 0, 1, 4) + run(trainval, 1, 3, 4),
    ):
        for a, b in zip(whole, others, strict=True):
            assert a.names == b.names
            assert all(torch.equal(x, y) for x, y in zip(flat(a), flat(b), strict=True))
    ranks = [run(trainval, 0, 3, 2, rank=rank, processes=2) for rank in range(2)]
    for i, batch in enumerate(whole):
        assert torch.equal(batch.images, torch.cat([ranks[0][i].images, ranks[1][i].images]))


def test_drawing_does_not_touch_the_global_generator(trainval):
    dataset = DetectionDataset(trainval, Augment("ssd", FILL, 300), seed=3)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    dataset[0]
    assert torch.equal(before, torch.get_rng_state())


def test_collate_pads_images_with_fewer_objects():
    image = torch.zeros(300, 300, 3, dtype=torch.uint8)
    one, none = torch.rand(1, 4), torch.zeros(0, 4)
    batch = batches.collate(
        [
            (image, one, torch.tensor([2]), "a"),
            (image, none, torch.zeros(0, dtype=torch.int64), "b"),
        ]
    )
    assert batch.labels.tolist() == [[2], [-1]]
    assert torch.equal(batch.boxes[0], one)
    assert batch.names == ("a", "b")


def test_opencv_reads_images_as_the_detector_does(trainval):
    pixels = image_files.read(trainval[0].record.image)
    assert np.array_equal(pixels, cv2.imread(str(trainval[0].record.image)))
