# SPDX-License-Identifier: Apache-2.0
"""The interface between detector and engine, with every engine."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from ssd_ros.backends import create as create_module
from ssd_ros.backends.backend import BACKENDS, BackendOptions
from ssd_ros.backends.create import choose, create
from ssd_ros.backends.openvino import choose_precision, engine
from ssd_ros.model.config import PAPER_VOC, TORCHVISION
from ssd_ros.model.not_finite import NotFiniteError
from ssd_ros.model.ssd import SSD
from ssd_ros.weights.weights import Weights

PYTORCH_BF16 = BackendOptions("pytorch", "cpu", "bf16")


@pytest.fixture(scope="module")
def weights() -> Weights:
    torch.manual_seed(1)
    model = SSD(2, width=0.0625)
    return Weights(model.state_dict(), ("cup", "cat"), model.config)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 300, 300, 3), dtype=np.uint8)


@pytest.fixture(params=BACKENDS)
def options(request) -> BackendOptions:
    return BackendOptions(request.param, "cpu", "fp32")


def infer(weights: Weights, options: BackendOptions, images: np.ndarray) -> list[torch.Tensor]:
    return [torch.as_tensor(x).float().clone() for x in create(weights, options).infer(images)]


def test_outputs_are_those_of_the_network_for_each_default_box(weights, images, options):
    backend = create(weights, options)
    assert (backend.name, backend.device, backend.precision) == (options.backend, "cpu", "fp32")
    assert "fp32" in backend.note
    logits, offsets = map(torch.as_tensor, backend.infer(images))
    assert logits.shape == (3, PAPER_VOC.box_count, 3)
    assert offsets.shape == (3, PAPER_VOC.box_count, 4)
    model = weights.model()
    with torch.inference_mode():
        expected = model(model.normalise(torch.from_numpy(images)))
    torch.testing.assert_close((logits, offsets), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"mean": (0.1, 0.5, 0.9), "std": (0.2, 0.3, 1.0)},
        {"feature_maps": PAPER_VOC.feature_maps[:2], "channels": PAPER_VOC.channels[:7]},
        {"feature_maps": TORCHVISION.feature_maps},
    ],
    ids=["normalisation", "two maps", "boxes"],
)
def test_openvino_builds_what_the_configuration_says(change, images):
    torch.manual_seed(2)
    channels = tuple(
        tuple(8 for _ in stage) for stage in change.pop("channels", PAPER_VOC.channels)
    )
    config = replace(PAPER_VOC, channels=channels, **change)
    model = SSD(3, config=config)
    weights = Weights(model.state_dict(), ("a", "b", "c"), config)
    ours, theirs = (
        infer(weights, BackendOptions(name, "cpu", "fp32"), images) for name in BACKENDS
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_each_image_s_result_is_the_same_in_any_batch(weights, images, options):
    backend = create(weights, options)
    batch = [torch.as_tensor(x).numpy().copy() for x in backend.infer(images)]
    for i in (2, 0, 1):
        for together, alone in zip(batch, backend.infer(images[i : i + 1]), strict=True):
            np.testing.assert_allclose(together[i], np.asarray(alone)[0], rtol=1e-4, atol=1e-4)


def test_bf16_is_nearly_the_same_and_said(weights, images):
    backend = create(weights, PYTORCH_BF16)
    assert backend.precision == "bf16"
    logits, _ = backend.infer(images)
    expected, _ = infer(weights, BackendOptions("pytorch", "cpu", "fp32"), images)
    assert logits.dtype == torch.bfloat16
    assert (logits.float().softmax(-1) - expected.softmax(-1)).abs().mean() < 0.01


def test_a_backend_does_not_change_the_weights(weights, images):
    before = {key: value.clone() for key, value in weights.tensors.items()}
    for options in (PYTORCH_BF16, BackendOptions("openvino")):
        create(weights, options).infer(images)
    assert all(torch.equal(before[key], value) for key, value in weights.tensors.items())


def test_a_closed_backend_refuses_to_run(weights, images, options):
    backend = create(weights, options)
    backend.close()
    with pytest.raises(RuntimeError, match="closed"):
        backend.infer(images)


def test_pytorch_s_threads_are_set_where_they_are_asked_for(weights):
    before = torch.get_num_threads()
    try:
        create(weights, BackendOptions("pytorch", "cpu", threads=before + 1))
        assert torch.get_num_threads() == before + 1
        create(weights, BackendOptions("pytorch", "cpu"))
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_openvino_runs_with_the_threads_that_are_asked_for(weights):
    assert ", 1 thread" in create(weights, BackendOptions("openvino", threads=1)).note
    assert ", 2 threads" in create(weights, BackendOptions("openvino", threads=2)).note


SIGNAL_AFTER_SWAPS = """
import os, signal
from ssd_ros.backends.backend import BackendOptions
from ssd_ros.backends.create import create
from ssd_ros.weights.reader import read

signal.signal(signal.SIGTERM, lambda *_: print("handled"))
weights, options = read("demo"), BackendOptions("openvino")
older, newer = create(weights, options), create(weights, options)
del older
del newer
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_after_swaps_of_networks_is_handled():
    command = [sys.executable, "-X", "faulthandler", "-c", SIGNAL_AFTER_SWAPS]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "handled\n"), result.stderr


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("backend", "abacus", "backend must be auto, openvino, pytorch, got 'abacus'"),
        ("precision", "fp64", "precision must be auto, fp32, bf16, fp16, int8, got 'fp64'"),
        ("threads", -1, "threads must be at least 0, got -1"),
        ("device", "gpu", "device must be auto, cpu, cuda or cuda:N, got 'gpu'"),
    ],
)
def test_options_out_of_range_are_refused_by_name_and_value(option, value, message):
    with pytest.raises(ValueError, match=message):
        BackendOptions(**{option: value})


def test_a_device_that_does_not_exist_is_refused_by_name(weights):
    with pytest.raises(ValueError, match=r"'cuda:99' not found: PyTorch .* reports"):
        create(weights, BackendOptions(device="cuda:99"))
    with pytest.raises(ValueError, match="must be auto or cpu for backend 'openvino', got 'cuda'"):
        create(weights, BackendOptions("openvino", "cuda"))


@pytest.mark.parametrize(
    ("options", "cuda", "installed", "expected", "reason"),
    [
        ((), True, True, "pytorch", "a CUDA device"),
        ((), False, True, "openvino", "no CUDA device here"),
        ((), False, False, "pytorch", "no CUDA device here, and OpenVINO is not installed"),
        (("auto", "cpu"), True, True, "openvino", "device 'cpu'"),
        (("auto", "cpu"), True, False, "pytorch", "device 'cpu', and OpenVINO is not installed"),
        (("auto", "cuda"), False, True, "pytorch", ""),
        (("auto", "auto", "int8"), True, True, "openvino", "precision 'int8' needs the CPU"),
        (("pytorch",), False, True, "pytorch", ""),
        (("openvino",), True, False, "openvino", ""),
    ],
)
def test_auto_is_cuda_then_openvino_then_pytorch(
    options, cuda, installed, expected, reason, monkeypatch
):
    monkeypatch.setattr(create_module, "_cuda_is_available", lambda: cuda)
    if not installed:
        monkeypatch.setitem(sys.modules, "openvino", None)
    assert choose(BackendOptions(*options)) == (expected, reason)


def test_openvino_reports_to_nobody():
    code = """
import ssd_ros.backends.openvino
from openvino.tools.ovc import telemetry_utils
print(telemetry_utils.tm.__name__)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "openvino.tools.ovc.telemetry_stub"


def test_the_note_says_why_auto_chose_what_runs(weights, monkeypatch):
    monkeypatch.setattr(create_module, "_cuda_is_available", lambda: False)
    note = create(weights, BackendOptions()).note
    assert note.startswith("OpenVINO ")
    precision = choose_precision("auto", engine().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    assert f"; {precision} as the processor has " in note
    assert note.endswith("; no CUDA device here")
    assert " as " not in create(weights, BackendOptions("openvino", "cpu", "fp32")).note


@pytest.mark.parametrize(
    ("name", "supported", "expected"),
    [
        ("auto", ["FP32", "INT8"], "fp32"),
        ("auto", ["FP32", "BF16", "INT8"], "bf16"),
        ("auto", ["FP32", "FP16"], "fp32"),
        ("fp32", ["FP32", "BF16"], "fp32"),
        ("fp16", ["FP32", "FP16"], "fp16"),
    ],
)
def test_openvino_s_precision(name, supported, expected):
    assert choose_precision(name, supported) == expected


def test_a_precision_without_hardware_is_refused(weights):
    with pytest.raises(ValueError, match=r"must be auto, fp32, int8 for OpenVINO .*, got 'bf16'"):
        choose_precision("bf16", ["FP32", "INT8"])


def scaled(weights: Weights, layer: str, factor: float) -> Weights:
    """The same weights, but one layer's multiplied."""
    tensors = dict(weights.tensors)
    tensors[f"{layer}.weight"] = factor * tensors[f"{layer}.weight"]
    return replace(weights, tensors=tensors)


def test_half_precision_that_overflows_is_not_used(weights, images):
    tensors = dict(scaled(weights, "conv7.0", 1e6).tensors)  # activations above 65504
    for layer in ("conv8.1", "scores.1", "offsets.1"):  # in float32 the outputs stay the same
        tensors[f"{layer}.weight"] = tensors[f"{layer}.weight"] / 1e6
    large = replace(weights, tensors=tensors)
    backend = create(large, BackendOptions("pytorch", "cpu", "fp16"))
    assert backend.precision == "fp32"
    assert backend.note.endswith("; fp32 instead of fp16: its outputs are not finite")
    expected = create(weights, BackendOptions("pytorch", "cpu")).infer(images)
    torch.testing.assert_close(backend.infer(images), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("head", ["scores.2", "offsets.5"])
def test_outputs_that_are_not_finite_are_an_error_with_the_precision(
    weights, images, options, head
):
    broken = scaled(weights, head, float("inf"))
    with pytest.raises(NotFiniteError, match=r"not finite \(NaN or infinity\) in fp32"):
        create(broken, options).infer(images)


def test_half_precision_of_weights_that_are_broken_in_fp32_is_an_error(weights):
    with pytest.raises(NotFiniteError, match=r"not finite \(NaN or infinity\) in fp32"):
        create(scaled(weights, "scores.0", float("inf")), PYTORCH_BF16)


def test_warm_up_on_the_cpu_changes_nothing(weights, images, options):
    backend = create(weights, options)
    expected = [torch.as_tensor(output).clone() for output in backend.infer(images)]
    note = backend.note
    backend.warm_up(4)
    outputs = [torch.as_tensor(output) for output in backend.infer(images)]
    torch.testing.assert_close(outputs, expected, rtol=0, atol=0)
    assert backend.note == note


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_cuda_graphs_give_the_outputs_of_the_network(weights, images, precision):
    backend = create(weights, BackendOptions(device="cuda", precision=precision))
    expected = [[o.clone() for o in backend.infer(images[:count])] for count in (1, 2)]
    backend.warm_up(2)
    assert backend.precision == precision
    assert "no CUDA graphs" not in backend.note
    for count in (2, 1, 2):
        backend.infer(255 - images[:count])  # its input and outputs must not stay
        torch.testing.assert_close(
            list(backend.infer(images[:count])), expected[count - 1], rtol=0.02, atol=0.05
        )
    assert not torch.backends.cudnn.benchmark
