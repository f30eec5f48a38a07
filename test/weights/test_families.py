# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of other implementations give the outputs that those implementations define."""

from collections.abc import Iterable, Mapping

import numpy as np
import pytest
import torch
from made_families import FAMILIES, Family
from torch import Tensor
from torchvision.ops import batched_nms

from ssd_ros.backends.backend import BACKENDS, BackendOptions
from ssd_ros.backends.create import create
from ssd_ros.detections import Thresholds
from ssd_ros.detector import Detector
from ssd_ros.image import Image
from ssd_ros.model import class_names
from ssd_ros.model.default_boxes import default_boxes
from ssd_ros.model.postprocess_numpy import decode
from ssd_ros.weights import native
from ssd_ros.weights.__main__ import main
from ssd_ros.weights.containers import Header
from ssd_ros.weights.reader import parse, read
from ssd_ros.weights.weights import Weights

IMAGE = torch.from_numpy(
    np.random.default_rng(0)
    .integers(0, 256, (10, 10, 3), dtype=np.uint8)
    .repeat(30, axis=0)
    .repeat(30, axis=1)
)


def weights_of(state: Mapping[str, Tensor], names: list[str] | None = None) -> Weights:
    """What reading a file with these tensors returns."""
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    header = Header(shapes, dict.fromkeys(shapes, "float32"))
    return parse(header, lambda: {key: tensor.numpy() for key, tensor in state.items()}, names)


def header_of(shapes: Mapping[str, tuple[int, ...]]) -> Header:
    return Header(dict(shapes), dict.fromkeys(shapes, "float32"))


def refusal(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Why a file with such tensors is refused, which needs no tensor."""
    with pytest.raises(ValueError, match=r"^looks like ") as caught:
        parse(header_of(shapes), lambda: pytest.fail("a refused file was read"), None)
    return str(caught.value)


class Case:
    """A random checkpoint of a family for VOC, and what the family's definition makes of it."""

    def __init__(self, name: str) -> None:
        self.name, self.family = name, FAMILIES[name]
        self.state = self.family.state_dict(outputs=21)
        self.weights = weights_of(self.state)
        with torch.inference_mode():
            self.scores, self.corners = self.family.evaluate(self.state, IMAGE)


@pytest.fixture(scope="module", params=FAMILIES)
def case(request) -> Case:
    return Case(request.param)


@pytest.fixture(params=FAMILIES)
def family(request) -> Family:
    return FAMILIES[request.param]


@pytest.mark.parametrize("backend", BACKENDS)
def test_detections_are_those_of_the_family_s_definition(case, backend):
    options = BackendOptions(backend, "cpu", "fp32")
    detector = Detector(case.weights, options, Thresholds(0.3, 0.45, 10_000, 10_000))
    found = detector([Image(IMAGE.numpy(), "rgb")])[0]
    detector.close()

    box, label = (case.scores > 0.3).nonzero(as_tuple=True)
    score, corners = case.scores[box, label], case.corners[box] * 300
    candidates = corners.clamp(0, 300) if case.family.nms_clipped else corners
    kept = batched_nms(candidates.double(), score.double(), label, 0.45)
    corners = corners[kept].clamp(0, 300)
    visible = (corners[:, 2:] > corners[:, :2]).all(dim=1)
    kept, corners = kept[visible], corners[visible]

    assert len(found) == len(kept) > 100
    np.testing.assert_allclose(found.scores, score[kept], rtol=0, atol=1e-4)
    # Scores that differ in their last digits alone may change places.
    by_class = np.lexsort((found.boxes[:, 0], found.labels))
    expected = np.lexsort((corners[:, 0].numpy(), label[kept].numpy()))
    np.testing.assert_array_equal(found.labels[by_class], label[kept][expected])
    np.testing.assert_allclose(found.boxes[by_class], corners[expected], rtol=0, atol=0.1)


def test_outputs_are_those_of_the_family_s_definition(case):
    engine = create(case.weights, BackendOptions("openvino", "cpu", "fp32"))
    logits, offsets = (torch.as_tensor(x)[0].clone() for x in engine.infer(IMAGE[None].numpy()))
    engine.close()
    scores = logits.softmax(dim=1)[:, 1:]
    torch.testing.assert_close(scores, case.scores, rtol=0, atol=1e-4)
    config = case.weights.config
    corners = decode(offsets.numpy(), default_boxes(config), config.variances)
    np.testing.assert_allclose(corners, case.corners, rtol=0, atol=1e-4)


def test_no_bit_changes_from_a_family_s_file_to_a_native_one(case, tmp_path):
    state = {key: tensor.half() for key, tensor in case.state.items()}
    weights = weights_of(state)
    native.write(tmp_path / "native.safetensors", weights)
    again = read(tmp_path / "native.safetensors")
    assert (again.classes, again.config) == (weights.classes, weights.config)
    for key, tensor in weights.tensors.items():
        assert again.tensors[key].dtype == np.float16
        assert again.tensors[key].tobytes() == tensor.tobytes()
    # Scores may have other places.
    assert np.array_equal(counted(again.tensors.values()), counted(state.values()))


def counted(tensors: Iterable[Tensor | np.ndarray]) -> np.ndarray:
    """How often each float16 is there."""
    bits = (np.asarray(tensor).ravel().view(np.uint16) for tensor in tensors)
    return sum(np.bincount(numbers, minlength=1 << 16) for numbers in bits)


@pytest.mark.parametrize(
    ("name", "outer", "prefix"),
    [
        ("amdegroot/ssd.pytorch's SSD300", None, "module."),
        ("lufficc/SSD's SSD300", "model", ""),
        ("mmdetection's SSD300", "state_dict", "module."),
    ],
)
def test_what_trainers_wrap_around_a_checkpoint_is_taken_off(name, outer, prefix, tmp_path):
    state = FAMILIES[name].state_dict(21)
    content: dict[str, object] = {prefix + key: tensor.half() for key, tensor in state.items()}
    if outer:
        content = {outer: content, "optimizer": {"lr": 0.1}, "iteration": 120_000}
    torch.save(content, tmp_path / "theirs.pth")
    weights = read(tmp_path / "theirs.pth")
    assert weights.classes == tuple(class_names.VOC)
    expected = weights_of({key: tensor.half() for key, tensor in state.items()})
    assert weights.config == expected.config
    for key, tensor in expected.tensors.items():
        assert np.array_equal(weights.tensors[key], tensor)


def test_the_background_s_scores_come_first_whatever_their_place_was():
    family = FAMILIES["mmdetection's SSD300"]
    state = {key: torch.zeros(1).expand(shape) for key, shape in family.shapes(4).items()}
    key = family.conf.format(1)
    state[f"{key}.bias"] = torch.arange(24.0)
    state[f"{key}.weight"] = torch.arange(24.0)[:, None, None, None].expand(24, 1024, 3, 3)
    tensors = weights_of(state, ["a", "b", "c"]).tensors
    order = [3, 0, 1, 2, 7, 4, 5, 6]
    assert tensors["scores.1.bias"][:8].tolist() == order
    assert tensors["scores.1.weight"][:8, 5, 1, 1].tolist() == order


@pytest.mark.parametrize("outputs", [2, 21, 81])
def test_default_boxes_are_those_of_the_family_s_code_for_the_dataset(family, outputs):
    names = [f"class {k}" for k in range(outputs - 1)]
    state = {key: torch.zeros(1).expand(shape) for key, shape in family.shapes(outputs).items()}
    boxes = default_boxes(weights_of(state, names).config)
    np.testing.assert_allclose(boxes, family.default_boxes(outputs), rtol=0, atol=1e-7)


def test_class_names_are_those_of_the_family_s_datasets(family):
    def read_with(outputs: int) -> tuple[str, ...]:
        shapes = family.shapes(outputs)
        return weights_of({key: torch.zeros(1).expand(s) for key, s in shapes.items()}).classes

    assert read_with(21) == tuple(class_names.VOC)
    coco = read_with(81)
    assert (len(coco), coco[0], coco[11], coco[79]) == (80, "person", "stop sign", "toothbrush")
    with pytest.raises(ValueError, match="has 3 classes but no class names"):
        read_with(4)


def test_info_tells_the_family_and_the_number_of_classes_that_need_names(tmp_path, capsys):
    name = "lufficc/SSD's SSD300"
    state = FAMILIES[name].state_dict(4)
    torch.save({"model": {key: tensor.half() for key, tensor in state.items()}}, tmp_path / "a.pth")
    assert main(["info", str(tmp_path / "a.pth")]) == 0
    told = capsys.readouterr().out
    for fact in (name, "3: unnamed 1, unnamed 2, unnamed 3", "before clipping"):
        assert fact in told
    assert main(["convert", str(tmp_path / "a.pth"), str(tmp_path / "a.safetensors")]) == 1
    told = capsys.readouterr().err
    command = f"python -m ssd_ros.weights convert {tmp_path}/a.pth"
    assert f"has 3 classes but no class names; convert it: {command}" in told
    assert told.endswith(" a.safetensors --classes NAME1,NAME2,…\n")


def test_amdegroot_s_201_outputs_are_those_of_coco_and_unused_ones():
    family = FAMILIES["amdegroot/ssd.pytorch's SSD300"]
    state = {key: torch.zeros(1).expand(shape) for key, shape in family.shapes(201).items()}
    names = weights_of(state).classes
    assert (names[:80], names[80], len(names)) == (tuple(class_names.COCO_80), "unused 81", 200)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_checkpoint_with_a_tensor_missing_is_refused_with_it(name):
    shapes = FAMILIES[name].shapes(21)
    del shapes[f"{FAMILIES[name].vgg.format(31)}.bias"]
    assert refusal(shapes).startswith(f"looks like {name}, but lacks tensor '")


@pytest.mark.parametrize("name", FAMILIES)
def test_ssd512_is_refused_by_its_feature_maps(name):
    family = FAMILIES[name]
    shapes = family.shapes(21)
    for head, values in ((family.loc, 4), (family.conf, 21)):
        shapes[f"{head.format(6)}.weight"] = (4 * values, 256, 3, 3)
        shapes[f"{head.format(6)}.bias"] = (4 * values,)
    assert refusal(shapes).startswith(
        f"looks like {name}, but has 7 feature maps with heads, expected 6 (SSD512 has 7); holds "
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_another_number_of_boxes_is_told(name):
    family = FAMILIES[name]
    shapes = family.shapes(21)
    for head, values in ((family.loc, 4), (family.conf, 21)):
        for k in (0, 4, 5):
            inputs = shapes[f"{head.format(k)}.weight"][1]
            shapes[f"{head.format(k)}.weight"] = (6 * values, inputs, 3, 3)
            shapes[f"{head.format(k)}.bias"] = (6 * values,)
    told = refusal(shapes)
    assert told.startswith(
        f"looks like {name}, but has heads for [6, 6, 6, 6, 6, 6] default boxes a cell, expected "
        "[4, 6, 6, 6, 4, 4]; "
    )
    assert told.endswith("for 20 classes; 9 more tensors have other shapes")


@pytest.mark.parametrize("name", FAMILIES)
def test_another_base_network_is_told(name):
    family = FAMILIES[name]
    base = family.vgg.partition("{}")[0]
    shapes = {
        key.replace(base, f"{base}deeper."): shape for key, shape in family.shapes(21).items()
    }
    assert refusal(shapes).startswith(
        f"looks like {name}, but has another base network than VGG16; lacks "
    )


def test_batch_normalisation_is_told():
    shapes = FAMILIES["amdegroot/ssd.pytorch's SSD300"].shapes(21)
    shapes["vgg.1.running_mean"] = (64,)
    assert "SSD300, but has batch normalisation, expected none; holds" in refusal(shapes)


def test_files_of_mmdetection_before_2_14_are_refused_with_what_to_do():
    shapes = {
        key.replace("neck.l2_norm", "backbone.l2_norm")
        .replace(".0.bias", ".bias")
        .replace(".0.weight", ".weight")
        if not key.startswith("backbone.features")
        else key: shape
        for key, shape in FAMILIES["mmdetection's SSD300"].shapes(81).items()
    }
    shapes["backbone.extra.0.weight"] = (256, 1024, 1, 1)
    told = refusal(shapes)
    assert told.startswith("looks like mmdetection's SSD300, but was written by a version before")
    assert told.endswith("if it is of version 1, then upgrade_ssd_version.py)")


def test_nvidia_s_network_is_refused_as_what_it_is():
    shapes: dict[str, tuple[int, ...]] = {
        "feature_extractor.feature_extractor.0.weight": (64, 3, 7, 7),
        "feature_extractor.feature_extractor.1.running_mean": (64,),
        "additional_blocks.0.0.weight": (256, 1024, 1, 1),
    }
    for k, (channels, boxes) in enumerate(
        ((1024, 4), (512, 6), (512, 6), (256, 6), (256, 4), (256, 4))
    ):
        shapes[f"loc.{k}.weight"] = (4 * boxes, channels, 3, 3)
        shapes[f"conf.{k}.weight"] = (81 * boxes, channels, 3, 3)
        shapes[f"loc.{k}.bias"], shapes[f"conf.{k}.bias"] = (4 * boxes,), (81 * boxes,)
    told = refusal(shapes)
    assert told.startswith("looks like NVIDIA's SSD300, but its network is another one: a ResNet")
