# SPDX-License-Identifier: Apache-2.0
"""The native weights file: one `.safetensors` with all that is needed to run the network.

Its tensors are the network's state dict. Its metadata are JSON texts under the keys `format`,
`classes`, `config` (all fields of `SSDConfig`), `training` (where the weights come from) and, in
quantised files only, `quantisation` (see `quantisation.Quantisation`; other readers of version 2
ignore it and run the same tensors in floating point).

Version 2 stores the whole configuration. Version 1, which is still read, had only the numbers from
which that of SSD300 with VGG16 was computed (scales, aspect ratios, width), so that it could not
describe another backbone, input size, variances, or channels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ssd_ros import atomic
from ssd_ros.model.config import PAPER_VOC, FeatureMap, SSDConfig, scaled_channels, ssd300_maps
from ssd_ros.model.layers import tensor_shapes
from ssd_ros.weights import safetensors_file
from ssd_ros.weights.arrays import Arrays, encode
from ssd_ros.weights.containers import Header, load_floats, open_file
from ssd_ros.weights.layout import Mismatch, check_count, compare
from ssd_ros.weights.quantisation import Quantisation
from ssd_ros.weights.quantisation import parse as parse_quantisation
from ssd_ros.weights.weights import Weights, WeightsError, check_class_names

FAMILY = "an ssd_ros file"
MARK = "ssd_ros metadata"
FORMAT = "ssd_ros/2"
FORMAT_1 = "ssd_ros/1"


def inspect(header: Header) -> Mismatch | None:
    """See `Layout.inspect`. Only metadata tell a native file from the bare state dict of one."""
    if not header.metadata.get("format", "").startswith("ssd_ros/"):  # other libraries write "pt"
        names = tensor_shapes(PAPER_VOC, 1)
        missing = tuple(key for key in names if key not in header.shapes)
        extra = tuple(key for key in header.shapes if key not in names)
        note = "has no metadata (classes, configuration)"
        return Mismatch(FAMILY, missing, extra, (), len(names) - len(missing), note)
    classes, config, *_ = _parse(header.metadata)
    try:
        expected = tensor_shapes(config, len(classes))
    except ValueError as error:
        raise WeightsError(f"has unusable metadata: {error}") from None
    return compare(FAMILY, header.shapes, expected, f"for {len(classes)} classes")


def convert(tensors: Arrays, header: Header, class_names: Sequence[str] | None) -> Weights:
    """See `Layout.convert`."""
    classes, config, training, quantisation = _parse(header.metadata)
    if class_names is not None:
        check_count(class_names, len(classes))
        classes = check_class_names(list(class_names))
    return Weights(tensors, classes, config, training, header.bfloat16, quantisation)


def _parse(
    metadata: Mapping[str, str],
) -> tuple[tuple[str, ...], SSDConfig, dict[str, Any], Quantisation | None]:
    """Class names, configuration, provenance and quantisation.

    Raises:
        WeightsError: the format is unknown, or metadata are missing or unusable.
    """
    parsers = {FORMAT: _config, FORMAT_1: _config_of_version_1}
    if metadata["format"] not in parsers:
        raise WeightsError(f"has format '{metadata['format']}', expected '{FORMAT}'")
    classes = check_class_names(_value(metadata, "classes"))
    try:
        config = parsers[metadata["format"]](metadata)
        training = dict(_value(metadata, "training"))
        quantisation = None
        if "quantisation" in metadata:
            quantisation = parse_quantisation(_value(metadata, "quantisation"), config)
    except WeightsError:
        raise
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        raise WeightsError(f"has unusable metadata: {error}") from None
    return classes, config, training, quantisation


def config_to_text(config: SSDConfig) -> str:
    """The configuration as JSON, for `config_from_text`."""
    return json.dumps(asdict(config))


def config_from_text(text: str) -> SSDConfig:
    """Raises WeightsError, ValueError or TypeError where the text is none of `config_to_text`."""
    return _config({"config": text})


def _config(metadata: Mapping[str, str]) -> SSDConfig:
    values = _value(metadata, "config")
    try:
        maps = tuple(
            FeatureMap(
                int(entry["cells"]),
                float(entry["step"]),
                tuple((float(w), float(h)) for w, h in entry["box_sizes"]),
            )
            for entry in values["feature_maps"]
        )
        return SSDConfig(
            feature_maps=maps,
            clip=values["clip"],
            mean=_numbers(values["mean"]),
            std=_numbers(values["std"]),
            channels=tuple(tuple(map(int, stage)) for stage in values["channels"]),
            variances=_numbers(values["variances"]),
            backbone=values["backbone"],
            input_size=int(values["input_size"]),
            nms=values.get("nms", SSDConfig.nms),  # not in the first files of version 2
        )
    except KeyError as error:
        raise WeightsError(f"metadata 'config' has no {error}") from None


def _config_of_version_1(metadata: Mapping[str, str]) -> SSDConfig:
    boxes = _value(metadata, "default_boxes")
    try:
        maps = ssd300_maps(
            _numbers(boxes["scales"]),
            tuple(map(_numbers, boxes["aspect_ratios"])),
            _numbers(boxes["steps"]),
        )
        clip = boxes["clip"]
    except KeyError as error:
        raise WeightsError(f"metadata 'default_boxes' has no {error}") from None
    return SSDConfig(
        feature_maps=maps,
        clip="size" if clip else "none",
        mean=_numbers(_value(metadata, "mean")),
        std=_numbers(_value(metadata, "std")),
        channels=scaled_channels(float(_value(metadata, "width"))),
    )


def _value(metadata: Mapping[str, str], key: str) -> Any:
    if key not in metadata:
        raise WeightsError(f"has no metadata '{key}'")
    try:
        return json.loads(metadata[key])
    except (TypeError, ValueError, RecursionError):
        raise WeightsError(f"metadata '{key}' is not JSON: {metadata[key]!r:.80}") from None


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def write(path: str | Path, weights: Weights) -> None:
    """Writes a native file; an existing one is replaced only by one that can be read.

    Raises:
        WeightsError: what was written cannot be read: tensors that are missing, misshapen or not
            finite, or unusable class names.
    """
    try:
        atomic.write(Path(path), to_bytes(weights), _read_back)
    except ValueError as error:
        raise WeightsError(f"weights file '{path}' not written: {error}") from None


def to_bytes(weights: Weights) -> bytes:
    """The content of a native file, unchecked."""
    metadata = {
        "format": FORMAT,
        "classes": json.dumps(weights.classes, ensure_ascii=False),
        "config": config_to_text(weights.config),
        "training": json.dumps(dict(weights.training), ensure_ascii=False),
    }
    if weights.quantisation is not None:
        metadata["quantisation"] = json.dumps(weights.quantisation.to_json())
    tensors = {key: encode(t, key in weights.bfloat16) for key, t in weights.tensors.items()}
    return safetensors_file.to_bytes(tensors, metadata)


def _read_back(path: Path) -> None:
    """Raises WeightsError where `reader.read` would."""
    header, load = open_file(path)
    mismatch = inspect(header)
    if mismatch is not None:
        raise WeightsError(str(mismatch))
    convert(load_floats(header, load), header, None)
