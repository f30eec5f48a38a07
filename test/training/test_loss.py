# SPDX-License-Identifier: Apache-2.0
"""Default boxes are matched, and the loss computed, as the SSD paper says."""

import pytest
import torch
from torchvision.models.detection._utils import SSDMatcher
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_convert, box_iou

from ssd_ros.model.box_coding import encode
from ssd_ros.model.config import PAPER_VOC
from ssd_ros.model.default_boxes import default_boxes
from training.trainer import loss
from training.trainer.loss import match, multibox_loss

DEFAULTS = torch.from_numpy(default_boxes(PAPER_VOC))
CORNERS = box_convert(DEFAULTS, "cxcywh", "xyxy")
CLASSES = 4


def random_targets(seed, counts):
    """Padded boxes and labels of images with so many objects each."""
    generator = torch.Generator().manual_seed(seed)
    most = max(counts, default=0)
    boxes = torch.zeros(len(counts), most, 4)
    labels = torch.full((len(counts), most), -1)
    for i, count in enumerate(counts):
        corner = torch.rand(count, 2, generator=generator) * 0.7
        size = 0.02 + torch.rand(count, 2, generator=generator) * 0.28
        boxes[i, :count] = torch.cat((corner, corner + size), dim=1)
        labels[i, :count] = torch.randint(0, CLASSES, (count,), generator=generator)
    return boxes, labels


def random_outputs(seed, images):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(images, len(DEFAULTS), CLASSES + 1, generator=generator),
        torch.randn(images, len(DEFAULTS), 4, generator=generator),
    )


class Encoder:
    @staticmethod
    def encode_single(boxes, anchors):
        return encode(boxes, box_convert(anchors, "xyxy", "cxcywh"))


def torchvision_loss(logits, offsets, boxes, labels):
    """torchvision's own matcher and loss, without the network around them."""
    ssd = SSD.__new__(SSD)
    torch.nn.Module.__init__(ssd)
    ssd.box_coder, ssd.neg_to_pos_ratio = Encoder, 3
    targets, matched = [], []
    for box, label in zip(boxes, labels, strict=True):
        real = label >= 0
        targets.append({"boxes": box[real], "labels": label[real] + 1})
        matched.append(SSDMatcher(0.5)(box_iou(box[real], CORNERS)))
    outputs = {"bbox_regression": offsets, "cls_logits": logits}
    return ssd.compute_loss(targets, outputs, [CORNERS] * len(boxes), matched)


@pytest.mark.parametrize("seed", range(4))
def test_loss_and_gradients_equal_torchvision_s(seed):
    boxes, labels = random_targets(seed, [5, 1, 12, 3])
    ours = [t.requires_grad_() for t in random_outputs(seed, 4)]
    theirs = [t.requires_grad_() for t in random_outputs(seed, 4)]
    targets = match(boxes, labels, DEFAULTS)
    classification, location = multibox_loss(*ours, targets, DEFAULTS)
    expected = torchvision_loss(*theirs, boxes, labels)
    torch.testing.assert_close(
        classification / targets.positives, expected["classification"], rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        location / targets.positives, expected["bbox_regression"], rtol=1e-5, atol=1e-5
    )
    ((classification + location) / targets.positives).backward()
    sum(expected.values()).backward()
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our.grad, their.grad, rtol=1e-5, atol=1e-7)


def test_every_object_gets_its_best_default_box_even_below_the_threshold():
    thin = torch.tensor([[[0.1, 0.5, 0.9, 0.503]]])
    targets = match(thin, torch.tensor([[2]]), DEFAULTS)
    assert targets.positives == 1
    (default,) = targets.classes[0].nonzero()
    assert default == box_iou(thin[0], CORNERS).argmax()
    assert targets.classes[0, default] == 3


def test_default_boxes_over_the_threshold_get_the_object_they_overlap_most():
    boxes = CORNERS[[4000, 4000 + 6 * 3]][None]  # two boxes, three cells of 16 pixels apart
    overlaps = box_iou(boxes[0], CORNERS)
    targets = match(boxes, torch.tensor([[0, 1]]), DEFAULTS)
    expected = (overlaps.argmax(dim=0) + 1).where(overlaps.max(dim=0).values >= 0.5, 0)
    assert torch.equal(targets.classes[0], expected)
    assert targets.positives > 2


def test_matching_in_parts_changes_nothing(monkeypatch):
    """As it is done where the overlaps of all objects would need too much memory."""
    boxes, labels = random_targets(4, [9, 0, 7])
    boxes[0, 8] = boxes[0, 1]  # the same best default box: the later object gets it
    whole = match(boxes, labels, DEFAULTS)
    monkeypatch.setattr(loss, "_MAX_OVERLAPS", 2 * 3 * len(DEFAULTS))
    parts = match(boxes, labels, DEFAULTS)
    assert torch.equal(parts.classes, whole.classes)
    assert torch.equal(parts.boxes, whole.boxes)


def test_padding_changes_nothing():
    boxes, labels = random_targets(3, [2])
    alone = match(boxes, labels, DEFAULTS)
    padded = match(
        torch.cat((boxes, torch.zeros(1, 5, 4)), dim=1),
        torch.cat((labels, torch.full((1, 5), -1)), dim=1),
        DEFAULTS,
    )
    assert torch.equal(alone.classes, padded.classes)
    assert torch.equal(alone.boxes, padded.boxes)


def test_three_hardest_negatives_of_each_image_count_for_each_match():
    boxes, labels = random_targets(5, [1, 4])
    targets = match(boxes, labels, DEFAULTS)
    logits, offsets = (t.requires_grad_() for t in random_outputs(5, 2))
    multibox_loss(logits, offsets, targets, DEFAULTS)[0].backward()
    background_entropy = -logits.detach().log_softmax(dim=-1)[..., 0]
    for image in range(2):
        positive = targets.classes[image] > 0
        taken = (logits.grad[image] != 0).any(dim=1) & ~positive
        assert taken.sum() == 3 * positive.sum()
        left = ~taken & ~positive
        assert background_entropy[image][taken].min() >= background_entropy[image][left].max()


@pytest.mark.parametrize("most", [0, 3])
def test_images_without_objects_teach_the_background_alone(most):
    targets = match(torch.zeros(2, most, 4), torch.full((2, most), -1), DEFAULTS)
    logits, offsets = (t.requires_grad_() for t in random_outputs(1, 2))
    classification, location = multibox_loss(logits, offsets, targets, DEFAULTS)
    (classification + location).backward()
    assert targets.positives == 0
    assert location == 0
    assert offsets.grad.count_nonzero() == 0
    assert ((logits.grad != 0).any(dim=-1).sum(dim=1) == 3).all()
    assert (logits.grad[..., 0] <= 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_values_and_gradients_stay_finite_in_half_precision(dtype):
    boxes, labels = random_targets(9, [3, 0, 6])
    boxes[0, 0, 2:] = boxes[0, 0, :2] + 1e-4  # a box of a thirtieth of a pixel
    targets = match(boxes, labels, DEFAULTS)
    logits, offsets = random_outputs(9, 3)
    logits, offsets = (t.to(dtype).requires_grad_() for t in (logits * 1e4, offsets * 1e4))
    with torch.autocast("cpu", dtype=dtype):
        classification, location = multibox_loss(logits, offsets, targets, DEFAULTS)
    assert classification.dtype == location.dtype == torch.float32
    ((classification + location) / targets.positives).backward()
    for tensor in (classification, location, logits.grad, offsets.grad):
        assert tensor.isfinite().all()


def test_no_negatives_are_invented_where_matches_fill_the_image():
    defaults = DEFAULTS[-4:]
    boxes = box_convert(defaults[:3], "cxcywh", "xyxy")[None]
    targets = match(boxes, torch.tensor([[0, 1, 2]]), defaults)
    logits = torch.randn(1, 4, CLASSES + 1)
    classification, _ = multibox_loss(logits, torch.zeros(1, 4, 4), targets, defaults)
    every = torch.nn.functional.cross_entropy(logits[0], targets.classes[0], reduction="sum")
    torch.testing.assert_close(classification, every)
