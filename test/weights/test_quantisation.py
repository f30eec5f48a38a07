# SPDX-License-Identifier: Apache-2.0
"""The ranges of the activations are kept in the native file, and refused where they are damaged."""

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
from small_weights import small_weights

from ssd_ros.model.layers import activations
from ssd_ros.weights.__main__ import main
from ssd_ros.weights.native import FORMAT, write
from ssd_ros.weights.quantisation import Quantisation, input_range, with_exact_zero
from ssd_ros.weights.reader import read
from ssd_ros.weights.weights import Weights, WeightsError


def quantised_weights() -> Weights:
    weights = small_weights()
    ranges = {name: (0.0, 1.5 + k) for k, name in enumerate(activations(weights.config))}
    ranges["norm4"] = (-0.1, 13.7)
    return replace(weights, quantisation=Quantisation(ranges, frozenset({"scores.0", "conv1.1"})))


def test_it_is_read_back(tmp_path):
    write(tmp_path / "w.safetensors", quantised_weights())
    got = read(tmp_path / "w.safetensors")
    assert got.quantisation == quantised_weights().quantisation
    assert read(tmp_path / "w.safetensors", ["a", "b", "c"]).quantisation == got.quantisation


def test_nothing_else_in_the_file_changes(tmp_path):
    """So that earlier readers of the format run it, in floating point."""
    write(tmp_path / "plain.safetensors", small_weights())
    write(tmp_path / "quantised.safetensors", quantised_weights())
    metadata = []
    for name in ("plain", "quantised"):
        with safetensors.safe_open(tmp_path / f"{name}.safetensors", "pt") as file:
            metadata.append(file.metadata())
    assert metadata[1].pop("quantisation")
    assert metadata[0] == metadata[1]
    assert metadata[0]["format"] == FORMAT
    assert read(tmp_path / "plain.safetensors").quantisation is None


def test_convert_keeps_it_and_info_says_it(tmp_path, capsys):
    first, second = str(tmp_path / "w.safetensors"), str(tmp_path / "v.safetensors")
    write(first, quantised_weights())
    assert main(["convert", first, second]) == 0
    assert read(second).quantisation == quantised_weights().quantisation
    assert main(["info", second]) == 0
    assert "quantised, but for conv1.1, scores.0\n" in capsys.readouterr().out
    write(first, small_weights())
    assert main(["info", first]) == 0
    assert "not quantised (python -m training.quantize)" in capsys.readouterr().out


def changed(**changes) -> str:
    quantisation = quantised_weights().quantisation
    assert quantisation is not None
    return json.dumps({**quantisation.to_json(), **changes})


def with_range(name: str, bounds: object) -> str:
    quantisation = quantised_weights().quantisation
    assert quantisation is not None
    return changed(ranges={**quantisation.to_json()["ranges"], name: bounds})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "'quantisation' is not JSON"),
        ("null", "must hold 'ranges' and 'kept', got None"),
        ("{}", "must hold 'ranges' and 'kept', got {}"),
        (changed(bits=4), "must hold 'ranges' and 'kept'"),
        (changed(ranges=[1]), "must hold 'ranges' and 'kept'"),
        (changed(kept="conv1.1"), "must hold 'ranges' and 'kept'"),
        (changed(ranges={"conv1.1": [0, 1]}), "no range of 'conv1.2', 'conv10.1', 'conv10.2'"),
        (with_range("conv12.1", [0, 1]), "unknown activation 'conv12.1'"),
        (changed(kept=["conv1.3"]), "unknown convolution 'conv1.3'"),
        (changed(kept=[["conv1.1"]]), r"unknown convolution '\['conv1.1'\]'"),
        (with_range("conv1.2", [0, 0]), r"range of 'conv1.2' .* got \[0, 0\]"),
        (with_range("conv1.2", [1, 2]), r"range of 'conv1.2' .* got \[1, 2\]"),
        (with_range("conv1.2", [0, float("nan")]), r"range of 'conv1.2' .* got \[0, nan\]"),
        (with_range("conv1.2", [0, float("inf")]), r"range of 'conv1.2' .* got \[0, inf\]"),
        (with_range("conv1.2", [0]), r"range of 'conv1.2' .* got \[0\]"),
        (with_range("conv1.2", None), "range of 'conv1.2' .* got None"),
        (with_range("norm4", ["a", 1]), "range of 'norm4' .* got"),
    ],
)
def test_what_is_damaged_or_unknown_is_refused_by_name(text, reason, tmp_path):
    file = tmp_path / "bad.safetensors"
    write(file, small_weights())
    with safetensors.safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    tensors = dict(small_weights().tensors)
    safetensors.torch.save_file(tensors, file, metadata | {"quantisation": text})
    with pytest.raises(WeightsError, match=f"(?s)bad.safetensors.*{reason}"):
        read(file)


def test_the_input_s_range_holds_every_image():
    config = replace(small_weights().config, mean=(0.2, 0.5, 0.4), std=(0.5, 0.1, 1.0))
    low, high = input_range(config)
    assert low.tolist() == pytest.approx([-0.4, -5.0, -0.4])
    assert (high - low).tolist() == pytest.approx([10.0] * 3)  # that of the second channel
    low, high = input_range(replace(config, mean=(-1.0, 3.0, -1.0)))
    assert low.tolist() == pytest.approx([0.0, -30.0, 0.0])
    assert (high - low).tolist() == pytest.approx([30.0] * 3)


def test_the_input_is_not_rounded_where_the_means_are_whole():
    config = small_weights().config
    low, high = with_exact_zero(*input_range(config))
    levels = low + (high - low) / 255 * np.arange(256)[:, None]
    pixels = (np.arange(256)[:, None] / 255 - config.mean) / config.std
    np.testing.assert_allclose(levels, pixels, atol=1e-9)
