# SPDX-License-Identifier: Apache-2.0
"""Average precision follows the PASCAL VOC devkit's rules."""

import numpy as np
import pytest

from training.evaluation.matching import GroundTruth, Predictions
from training.evaluation.voc_ap import evaluate, mean

BOX, SHIFTED, FAR = (0, 0, 10, 10), (2, 0, 12, 10), (50, 50, 60, 60)  # IoU of the first two: 2/3


def objects(*rows):
    """Rows of image_index, label, box, difficult."""
    image_index, label, boxes, difficult = zip(*rows, strict=True) if rows else ((), (), (), ())
    return GroundTruth(
        np.array(image_index, int),
        np.array(label, int),
        np.array(boxes, float).reshape(-1, 4),
        np.array(difficult, bool),
    )


def scored(*rows):
    """Rows of image_index, label, box, score."""
    image_index, label, boxes, scores = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Predictions(
        np.array(image_index, int),
        np.array(label, int),
        np.array(boxes, float).reshape(-1, 4),
        np.array(scores, float),
    )


def test_finding_every_object_and_nothing_else_is_perfect():
    ground_truth = objects((0, 0, BOX, False), (1, 0, FAR, False))
    (result,) = evaluate(scored((0, 0, BOX, 0.9), (1, 0, FAR, 0.3)), ground_truth, 1)
    assert (result.ap, result.ap_11) == (1.0, 1.0)
    assert result.recall.tolist() == [0.5, 1.0]


def test_a_second_detection_of_an_object_is_a_false_positive():
    ground_truth = objects((0, 0, BOX, False), (0, 0, FAR, False))
    detections = scored((0, 0, BOX, 0.9), (0, 0, SHIFTED, 0.8), (0, 0, FAR, 0.7))
    (result,) = evaluate(detections, ground_truth, 1)
    assert result.precision.tolist() == [1.0, 0.5, pytest.approx(2 / 3)]
    assert result.ap == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert result.ap_11 == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_a_duplicate_does_not_take_the_next_best_object():
    """The devkit holds a detection against the object it overlaps most, even a taken one."""
    beside = (4, 0, 14, 10)
    ground_truth = objects((0, 0, BOX, False), (0, 0, beside, False))
    detections = scored((0, 0, BOX, 0.9), (0, 0, (1, 0, 11, 10), 0.8))  # IoU 0.82 and 0.54
    (result,) = evaluate(detections, ground_truth, 1)
    assert result.precision.tolist() == [1.0, 0.5]


def test_detections_of_difficult_objects_count_neither_way():
    ground_truth = objects((0, 0, BOX, True), (1, 0, BOX, False))
    detections = scored((0, 0, BOX, 0.9), (0, 0, SHIFTED, 0.8), (1, 0, BOX, 0.7))
    (result,) = evaluate(detections, ground_truth, 1)
    assert result.ap == 1.0
    assert result.positives == 1
    assert result.detections == 3
    assert result.precision.tolist() == [1.0]


def test_a_class_with_only_difficult_objects_has_no_average_precision():
    ground_truth = objects((0, 0, BOX, True), (0, 1, BOX, False))
    first, second = evaluate(scored((0, 0, BOX, 0.9), (0, 1, BOX, 0.9)), ground_truth, 2)
    assert np.isnan(first.ap)
    assert np.isnan(first.ap_11)
    assert mean([first.ap, second.ap]) == 1.0


def test_without_detections_the_average_precision_is_zero():
    (result,) = evaluate(scored(), objects((0, 0, BOX, False)), 1)
    assert (result.ap, result.ap_11) == (0.0, 0.0)


def test_without_objects_every_class_is_undefined():
    results = evaluate(scored((0, 1, BOX, 0.9)), objects(), 2)
    assert all(np.isnan(result.ap) for result in results)
    assert np.isnan(mean([result.ap for result in results]))
    assert results[1].precision.tolist() == [0.0]


def test_equal_scores_count_in_the_order_of_the_rows():
    ground_truth = objects((0, 0, BOX, False))
    hit, miss = (0, 0, BOX, 0.5), (0, 0, FAR, 0.5)
    assert evaluate(scored(hit, miss), ground_truth, 1)[0].ap == 1.0
    assert evaluate(scored(miss, hit), ground_truth, 1)[0].ap == 0.5


def test_an_overlap_of_exactly_the_threshold_is_a_hit():
    (result,) = evaluate(scored((0, 0, (0, 0, 10, 5), 0.9)), objects((0, 0, BOX, False)), 1)
    assert result.ap == 1.0
    (result,) = evaluate(scored((0, 0, (0, 0, 10, 4.99), 0.9)), objects((0, 0, BOX, False)), 1)
    assert result.ap == 0.0


def test_a_box_of_another_class_or_image_is_no_hit():
    ground_truth = objects((0, 0, BOX, False), (1, 1, BOX, False))
    results = evaluate(scored((1, 0, BOX, 0.9), (0, 1, BOX, 0.9)), ground_truth, 2)
    assert [result.ap for result in results] == [0.0, 0.0]


def test_a_recall_of_three_tenths_reaches_the_point_at_three_tenths():
    ground_truth = objects(*((i, 0, BOX, False) for i in range(10)))
    (result,) = evaluate(scored(*((i, 0, BOX, 0.9) for i in range(3))), ground_truth, 1)
    assert result.ap_11 == pytest.approx(4 / 11)


def test_columns_that_do_not_fit_are_refused_by_name():
    with pytest.raises(ValueError, match=r"scores must have shape \(1,\)"):
        Predictions(np.zeros(1, int), np.zeros(1, int), np.zeros((1, 4)), np.zeros(2))
    with pytest.raises(ValueError, match="labels of detections must be from 0 to 0"):
        evaluate(scored((0, 1, BOX, 0.5)), objects(), 1)


def random_set(rng, images, per_image, classes, detections):
    """A dataset, and detections of which about half lie near an object."""
    count = images * per_image
    corner, size = rng.uniform(0, 80, (count, 2)), rng.uniform(5, 40, (count, 2))
    boxes = np.concatenate((corner, corner + size), axis=1)
    ground_truth = GroundTruth(
        np.repeat(np.arange(images), per_image),
        rng.integers(0, classes, count),
        boxes,
        rng.random(count) < 0.15,
    )
    source = rng.integers(0, count, images * detections)
    near = boxes[source] + rng.normal(0, 2, (len(source), 4))
    label = np.where(
        rng.random(len(source)) < 0.8,
        ground_truth.label[source],
        rng.integers(0, classes, len(source)),
    )
    return ground_truth, Predictions(
        ground_truth.image_index[source], label, near, rng.random(len(source))
    )


def by_the_book(detections, ground_truth, label, threshold=0.5):
    """The devkit's VOCevaldet.m step by step, one detection at a time."""
    taken, flags = set(), []
    for d in np.flatnonzero(detections.label == label)[
        np.argsort(-detections.scores[detections.label == label], kind="stable")
    ]:
        best, best_object = -np.inf, None
        for g in np.flatnonzero(
            (ground_truth.image_index == detections.image_index[d]) & (ground_truth.label == label)
        ):
            a, b = detections.boxes[d], ground_truth.boxes[g]
            w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            if w > 0 and h > 0:
                area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
                if w * h / (area - w * h) > best:
                    best, best_object = w * h / (area - w * h), g
        if best >= threshold:
            if ground_truth.difficult[best_object]:
                continue
            flags.append(best_object not in taken)
            taken.add(best_object)
        else:
            flags.append(False)
    hits = np.cumsum(flags)
    positives = ((ground_truth.label == label) & ~ground_truth.difficult).sum()
    recall, precision = hits / positives, hits / np.arange(1, len(flags) + 1)
    ap_11 = sum(precision[recall >= t - 1e-12].max(initial=0) for t in np.linspace(0, 1, 11)) / 11
    r, p = np.concatenate(([0], recall, [1])), np.concatenate(([0], precision, [0]))
    for i in range(len(p) - 2, -1, -1):
        p[i] = max(p[i], p[i + 1])
    return ap_11, ((r[1:] - r[:-1]) * p[1:]).sum()


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_devkit_s_procedure_on_random_sets(seed, monkeypatch):
    monkeypatch.setattr("training.evaluation.matching._MAX_PAIRS", 100)  # pairs in parts
    ground_truth, detections = random_set(np.random.default_rng(seed), 30, 6, 3, 20)
    for label, result in enumerate(evaluate(detections, ground_truth, 3)):
        assert (result.ap_11, result.ap) == pytest.approx(
            by_the_book(detections, ground_truth, label)
        )


def test_equals_an_independent_package_on_random_sets():
    library = pytest.importorskip("mean_average_precision")
    ground_truth, detections = random_set(np.random.default_rng(7), 23, 6, 1, 15)
    # The package matches difficult objects one by one; without them the definitions agree.
    ground_truth = GroundTruth(
        ground_truth.image_index,
        ground_truth.label,
        ground_truth.boxes,
        np.zeros(len(ground_truth.image_index), bool),
    )
    metric = library.MetricBuilder.build_evaluation_metric("map_2d", num_classes=1)
    # It counts corners as pixels, one longer than continuous coordinates.
    for i in range(23):
        d, g = detections.image_index == i, ground_truth.image_index == i
        pixels = np.array([0, 0, 1, 1])
        metric.add(
            np.column_stack(
                (detections.boxes[d] - pixels, detections.label[d], detections.scores[d])
            ),
            np.column_stack(
                (ground_truth.boxes[g] - pixels, ground_truth.label[g], np.zeros((g.sum(), 2)))
            ),
        )
    (result,) = evaluate(detections, ground_truth, 1)
    points = np.arange(0, 1.1, 0.1)
    assert result.ap_11 == pytest.approx(metric.value(0.5, points)["mAP"], abs=1e-6)
    assert result.ap == pytest.approx(metric.value(0.5)["mAP"], abs=1e-6)
