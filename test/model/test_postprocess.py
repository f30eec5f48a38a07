# SPDX-License-Identifier: Apache-2.0
"""Post-processing: its thresholds, its order, and independence from the batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from ssd_ros.detections import Thresholds
from ssd_ros.model import postprocess_numpy
from ssd_ros.model.box_coding import encode
from ssd_ros.model.config import PAPER_VOC
from ssd_ros.model.default_boxes import default_boxes
from ssd_ros.model.postprocess import Postprocessor, postprocess

DEFAULTS = torch.from_numpy(default_boxes(PAPER_VOC))


def outputs(*detections: tuple[list[float], int, float], classes: int = 3) -> tuple[Tensor, Tensor]:
    """Outputs of a network for which each (box, class, probability) comes from one default box."""
    probabilities = torch.full((1, len(DEFAULTS), classes + 1), 1e-9)
    probabilities[..., 0] = 1.0
    offsets = torch.zeros(1, len(DEFAULTS), 4)
    for i, (box, label, probability) in enumerate(detections):
        probabilities[0, i, 0] = 1 - probability
        probabilities[0, i, label + 1] = probability
        offsets[0, i] = encode(torch.tensor(box), DEFAULTS[i])
    return probabilities.log(), offsets


def run(outputs: tuple[Tensor, Tensor], class_mask: Tensor | None = None, **thresholds) -> Tensor:
    return postprocess(*outputs, DEFAULTS, Thresholds(**thresholds), class_mask)


LEFT, RIGHT = [0.1, 0.1, 0.4, 0.4], [0.6, 0.1, 0.9, 0.4]
LEFT_AGAIN = [0.11, 0.1, 0.41, 0.4]


def test_a_row_is_image_class_score_and_corners():
    rows = run(outputs((LEFT, 2, 0.9)))
    expected = torch.tensor([[0, 2, 0.9, *LEFT]])
    torch.testing.assert_close(rows, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("place", [0, 1])
def test_outputs_that_are_not_finite_are_an_error_and_not_an_empty_result(place):
    process = Postprocessor(PAPER_VOC, Thresholds())
    given = [output.half() for output in outputs((LEFT, 2, 0.9))]
    assert len(process(*given)) == 1
    given[place][0, 5, 1] = float("nan")
    with pytest.raises(RuntimeError, match=r"not finite \(NaN or infinity\) in fp16"):
        process(*given)


def test_detections_come_best_first():
    rows = run(outputs((LEFT, 0, 0.6), (RIGHT, 1, 0.8)))
    assert rows[:, 1].tolist() == [1, 0]


def test_the_score_must_be_above_the_threshold():
    detections = outputs((LEFT, 0, 0.6), (RIGHT, 0, 0.8))
    assert len(run(detections, score_threshold=0.7)) == 1
    assert len(run(detections, score_threshold=0.9)) == 0


def test_overlap_suppresses_within_a_class_only():
    same = outputs((LEFT, 0, 0.9), (LEFT_AGAIN, 0, 0.8))
    other = outputs((LEFT, 0, 0.9), (LEFT_AGAIN, 1, 0.8))
    assert run(same)[:, 2].tolist() == pytest.approx([0.9])
    assert len(run(other)) == 2
    overlap = box_iou(torch.tensor([LEFT]), torch.tensor([LEFT_AGAIN])).item()
    assert len(run(same, nms_iou_threshold=overlap + 0.01)) == 2


def test_the_best_max_detections_of_each_image_stay():
    one, two = outputs((LEFT, 0, 0.6), (RIGHT, 1, 0.8)), outputs((RIGHT, 2, 0.7))
    batch = (torch.cat((one[0], two[0])), torch.cat((one[1], two[1])))
    rows = run(batch, max_detections=1)
    assert rows[:, :2].tolist() == [[0, 1], [1, 2]]


def test_only_the_best_top_k_of_a_class_reach_the_suppression():
    detections = outputs((LEFT, 0, 0.9), (RIGHT, 0, 0.8), (RIGHT, 1, 0.7))
    assert run(detections, top_k=1)[:, 1].tolist() == [0, 1]


def test_boxes_are_cut_to_the_image_and_invisible_ones_dropped():
    rows = run(outputs(([-0.2, 0.5, 0.3, 1.4], 0, 0.9), ([1.1, 0.1, 1.4, 0.4], 1, 0.8)))
    torch.testing.assert_close(rows[:, 3:], torch.tensor([[0.0, 0.5, 0.3, 1.0]]))


def test_suppression_compares_whole_boxes_or_their_visible_parts_as_configured():
    # Their IoU is 0.4 as wholes, and 0.7 for the parts within the image.
    inside, across = [0.0, 0.0, 0.35, 0.5], [-0.375, 0.0, 0.5, 0.5]
    whole = box_iou(torch.tensor([inside]), torch.tensor([across])).item()
    cut = box_iou(torch.tensor([inside]), torch.tensor([across]).clamp(0, 1)).item()
    assert (round(whole, 2), round(cut, 2)) == (0.4, 0.7)
    found = outputs((inside, 0, 0.9), (across, 0, 0.8))
    for nms, count in (("after_clipping", 1), ("before_clipping", 2)):
        config = replace(PAPER_VOC, nms=nms)
        for rows in (
            Postprocessor(config, Thresholds(nms_iou_threshold=0.5))(*found),
            postprocess_numpy.Postprocessor(config, Thresholds(nms_iou_threshold=0.5))(*found),
        ):
            assert len(rows) == count
            assert rows[:, 3:].min() >= 0
    beside = outputs((inside, 0, 0.9), ([-0.5, 0, -0.1, 0.5], 1, 0.8))
    config = replace(PAPER_VOC, nms="before_clipping")
    assert Postprocessor(config, Thresholds())(*beside)[:, 1].tolist() == [0]


def test_classes_outside_the_mask_are_not_reported():
    detections = outputs((LEFT, 0, 0.9), (RIGHT, 1, 0.8))
    assert run(detections, class_mask=torch.tensor([False, True, True]))[:, 1].tolist() == [1]


def test_no_detections_are_an_empty_table():
    assert run(outputs()).shape == (0, 7)


def test_an_image_has_the_same_detections_anywhere_in_a_batch():
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(1, len(DEFAULTS), 21, generator=generator)
    offsets = torch.randn(1, len(DEFAULTS), 4, generator=generator)
    alone = run((logits, offsets), score_threshold=0.2)
    batch = run((logits.repeat(7, 1, 1), offsets.repeat(7, 1, 1)), score_threshold=0.2)
    assert len(alone) > 50
    for i in range(7):
        assert torch.equal(batch[batch[:, 0] == i][:, 1:], alone[:, 1:])


def test_the_postprocessor_returns_the_same_rows_as_an_array():
    detections = outputs((LEFT, 2, 0.9), (RIGHT, 1, 0.8))
    rows = Postprocessor(PAPER_VOC, Thresholds())(*detections)
    np.testing.assert_array_equal(rows, run(detections).numpy())
    mask = np.array([True, True, False])
    assert Postprocessor(PAPER_VOC, Thresholds(), mask)(*detections)[:, 1].tolist() == [1]
    assert len(Postprocessor(PAPER_VOC, Thresholds(0.85))(*detections)) == 1


def test_the_postprocessor_decodes_with_the_configuration_s_variances_and_boxes():
    logits, offsets = outputs((LEFT, 2, 0.9))
    other = replace(PAPER_VOC, variances=(0.2, 0.4))
    halved = Postprocessor(other, Thresholds())(logits, offsets / 2)
    torch.testing.assert_close(torch.from_numpy(halved), run((logits, offsets)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_outputs_are_taken(dtype):
    logits, offsets = outputs((LEFT, 2, 0.9))
    rows = run((logits.to(dtype), offsets.to(dtype)))
    torch.testing.assert_close(rows, torch.tensor([[0, 2, 0.9, *LEFT]]), rtol=0, atol=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_finds_what_the_cpu_finds():
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(2, len(DEFAULTS), 21, generator=generator)
    offsets = torch.randn(2, len(DEFAULTS), 4, generator=generator)
    on_cpu = postprocess(logits, offsets, DEFAULTS, Thresholds())
    on_cuda = postprocess(logits.cuda(), offsets.cuda(), DEFAULTS.cuda(), Thresholds())
    torch.testing.assert_close(on_cuda.cpu(), on_cpu, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("score_threshold", -0.1),
        ("score_threshold", float("nan")),
        ("nms_iou_threshold", 1.5),
        ("max_detections", 0),
        ("top_k", 0),
    ],
)
def test_thresholds_out_of_range_are_refused_by_name_and_value(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .* got {value}"):
        Thresholds(**{name: value})
