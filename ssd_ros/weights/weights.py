# SPDX-License-Identifier: Apache-2.0
"""Weights files: read, check, write, recognise and convert foreign ones.

The native file is one `.safetensors`: SSD300's state dict, and in its metadata all that is needed
to run it, class names included. `python -m ssd_ros.model.weights --help` shows the commands.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ssd_ros import atomic
from ssd_ros.model import foreign
from ssd_ros.model.config import TORCHVISION, SSDConfig
from ssd_ros.model.default_boxes import default_boxes
from ssd_ros.model.ssd300 import SSD300

FORMAT = "ssd_ros/1"
DEMO = "demo"  # the name of the weights that come with the package
_DEMO_FILE = Path(__file__).parents[1] / "weights" / "demo.safetensors"


class WeightsError(ValueError):
    """A weights file that cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class Weights:
    """A trained SSD300 and all that is needed to run it.

    Attributes:
        tensors: SSD300's state dict, on the CPU.
        classes: names of the object classes; the network's class k + 1 is classes[k].
        config: default boxes and input normalisation.
        width: channel multiplier.
        training: where the weights come from (data, mAP, iterations, date), for people.
    """

    tensors: Mapping[str, Tensor]
    classes: tuple[str, ...]
    config: SSDConfig
    width: float = 1.0
    training: Mapping[str, Any] = field(default_factory=dict)

    def model(self) -> SSD300:
        """The network with these weights, float32, on the CPU, in evaluation mode."""
        with torch.device("meta"):  # no time spent on a random start
            model = SSD300(len(self.classes), self.width, self.config)
        tensors = {key: tensor.float() for key, tensor in self.tensors.items()}
        model.load_state_dict(tensors, assign=True)
        return model.eval()


# --- reading ----------------------------------------------------------------------------------


def read(path: str | Path, classes: Sequence[str] | None = None) -> Weights:
    """Weights from a native file, or from a torchvision `ssd300_vgg16` state dict.

    No code in a file is ever executed.

    Args:
        path: `.safetensors`, or a `.pth` of plain tensors; `demo` for those in the package.
        classes: class names without the background, for a foreign file that has none of its
            own. Files with torchvision's 21 or 91 outputs need none: they are VOC and COCO.

    Raises:
        WeightsError: the file is missing, damaged, of another network, holds tensors that are
            missing, misshapen or not finite, or would run code.
    """
    path = _DEMO_FILE if str(path) == DEMO else Path(path).expanduser()
    try:
        tensors, metadata = _load(path)
        if "format" in metadata:
            weights = _from_native(tensors, metadata)
            if classes is not None:
                weights = replace(weights, classes=_class_names(list(classes)))
        elif foreign.is_torchvision(tensors):
            tensors, names = foreign.from_torchvision(tensors, classes)
            weights = Weights(tensors, _class_names(names), TORCHVISION)
        else:
            raise WeightsError(
                "is of another network: it holds neither ssd_ros metadata nor the tensors of "
                "torchvision's ssd300_vgg16, but "
                + (_some(sorted(tensors)) if tensors else "no tensor")
            )
        _check_tensors(weights)
    except ValueError as error:
        raise WeightsError(f"weights file '{path}': {error}") from None
    return weights


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, of whatever network they are; no code in it is ever executed.

    Raises:
        WeightsError: the file is missing, damaged, or would run code.
    """
    try:
        return _load(Path(path))[0]
    except WeightsError as error:
        raise WeightsError(f"weights file '{path}': {error}") from None


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file, recognised by its first bytes, not by its name."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror}") from None
    if not start:
        raise WeightsError("is empty")
    if start.startswith(b"PK") or start.startswith(b"\x80"):
        return _load_pytorch(path), {}
    if len(start) > 8 and start[8:9] == b"{":
        try:
            with safe_open(path, framework="pt") as file:
                # Copies: a mapped file that is overwritten later would kill the process.
                tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
                return tensors, file.metadata() or {}
        except SafetensorError as error:
            raise WeightsError(f"is a damaged or truncated .safetensors file ({error})") from None
    raise WeightsError("is neither a .safetensors file nor a PyTorch state dict")


def _load_pytorch(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:  # a name would make torch choose by its suffix
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named:
            raise WeightsError(
                f"is a pickle that would call {named[1]} and so might run code when opened; save "
                "the state dict alone: torch.save(model.state_dict(), …)"
            ) from None
        raise WeightsError("is a damaged PyTorch file, or holds more than tensors") from None
    except Exception as error:  # the unpickler raises nearly anything at broken data
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise WeightsError(f"is a damaged or truncated PyTorch file ({reason})") from None
    for key in ("model", "state_dict"):  # where training scripts nest it
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise WeightsError(f"holds a {type(content).__name__}, expected a state dict of tensors")
    return dict(content)


def _from_native(tensors: dict[str, Tensor], metadata: Mapping[str, str]) -> Weights:
    if metadata["format"] != FORMAT:
        raise WeightsError(f"has format '{metadata['format']}', expected '{FORMAT}'")
    values: dict[str, Any] = {}
    for key in ("classes", "width", "default_boxes", "mean", "std", "training"):
        if key not in metadata:
            raise WeightsError(f"has no metadata '{key}'")
        try:
            values[key] = json.loads(metadata[key])
        except ValueError:
            raise WeightsError(f"metadata '{key}' is not JSON: {metadata[key]!r:.80}") from None
    try:
        boxes = values["default_boxes"]
        config = SSDConfig(
            scales=_numbers(boxes["scales"]),
            aspect_ratios=tuple(map(_numbers, boxes["aspect_ratios"])),
            steps=_numbers(boxes["steps"]),
            clip=bool(boxes["clip"]),
            mean=_numbers(values["mean"]),
            std=_numbers(values["std"]),
        )
        width = float(values["width"])
        training = dict(values["training"])
    except KeyError as error:
        raise WeightsError(f"metadata 'default_boxes' has no {error}") from None
    except (TypeError, ValueError) as error:
        raise WeightsError(f"has unusable metadata: {error}") from None
    if not (math.isfinite(width) and 0 < width <= 4):
        raise WeightsError(f"metadata 'width' is {width}, expected above 0 and at most 4")
    return Weights(tensors, _class_names(values["classes"]), config, width, training)


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _class_names(names: Any) -> tuple[str, ...]:
    if (
        not isinstance(names, list)
        or not names
        or not all(isinstance(name, str) and name.strip() for name in names)
        or len(set(names)) != len(names)
    ):
        raise WeightsError(f"classes must be different, non-empty names, got {names!r:.200}")
    return tuple(names)


def _check_tensors(weights: Weights) -> None:
    """Names, shapes, types and values against the network that the metadata describe."""
    with torch.device("meta"):
        expected = SSD300(len(weights.classes), weights.width, weights.config).state_dict()
    found = weights.tensors
    missing = [key for key in expected if key not in found]
    if missing:
        raise WeightsError(f"lacks {_some(missing)}")
    unknown = [key for key in found if key not in expected]
    if unknown:
        raise WeightsError(f"holds {_some(unknown)}, which SSD300 does not have")
    for key, tensor in found.items():
        if tensor.shape != expected[key].shape:
            raise WeightsError(
                f"tensor '{key}' has shape {tuple(tensor.shape)}, expected "
                f"{tuple(expected[key].shape)} for {len(weights.classes)} classes and "
                f"width {weights.width:g}"
            )
        if not tensor.is_floating_point():
            raise WeightsError(f"tensor '{key}' has type {tensor.dtype}, expected floating point")
        if not tensor.isfinite().all():
            raise WeightsError(f"tensor '{key}' holds NaN or infinite values")


def _some(keys: Sequence[str]) -> str:
    shown = ", ".join(f"'{key}'" for key in keys[:3])
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"tensor{'s' if len(keys) > 1 else ''} {shown}{more}"


# --- writing ----------------------------------------------------------------------------------


def write(path: str | Path, weights: Weights) -> None:
    """Writes a native file; an existing one is replaced only when the new one is whole."""
    config = weights.config
    boxes = {
        "scales": config.scales,
        "aspect_ratios": config.aspect_ratios,
        "steps": config.steps,
        "clip": config.clip,
    }
    metadata = {
        "format": FORMAT,
        "classes": json.dumps(weights.classes, ensure_ascii=False),
        "width": json.dumps(weights.width),
        "default_boxes": json.dumps(boxes),
        "mean": json.dumps(config.mean),
        "std": json.dumps(config.std),
        "training": json.dumps(dict(weights.training), ensure_ascii=False),
    }
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in weights.tensors.items()}
    atomic.write(Path(path), safetensors.torch.save(tensors, metadata))


# --- command line -----------------------------------------------------------------------------


def describe(weights: Weights) -> str:
    """What a weights file is, in lines for people."""
    config = weights.config
    count = sum(tensor.numel() for tensor in weights.tensors.values())
    dtypes = sorted({str(tensor.dtype).split(".")[-1] for tensor in weights.tensors.values()})
    boxes = len(default_boxes(config))
    lines = {
        "network": f"SSD300, width {weights.width:g}, {count / 1e6:.1f} M parameters",
        "stored as": ", ".join(dtypes),
        "classes": f"{len(weights.classes)}: {', '.join(weights.classes)}",
        "default boxes": f"{boxes}, scales {', '.join(f'{s:g}' for s in config.scales)}"
        + (", clipped" if config.clip else ""),
        "mean (RGB)": ", ".join(f"{255 * value:.1f}" for value in config.mean),
        "std (RGB)": ", ".join(f"{255 * value:.1f}" for value in config.std),
        "training": json.dumps(dict(weights.training), ensure_ascii=False)
        if weights.training
        else "not recorded",
    }
    return "\n".join(f"{name + ':':15}{value}" for name, value in lines.items())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ssd_ros.model.weights", description="Look into weights files, make them."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="print what a weights file is")
    info.add_argument("file", type=Path, help="native .safetensors, or torchvision's .pth")
    info.add_argument("--classes", nargs="+", metavar="NAME", help="names for a file without any")
    convert = commands.add_parser(
        "convert", help="make a native file from a torchvision ssd300_vgg16 state dict"
    )
    convert.add_argument("source", type=Path, help="state dict as torch.save writes it")
    convert.add_argument("target", type=Path, help="native file to write (.safetensors)")
    convert.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="class names in the network's order, without the background; not needed for "
        "torchvision's own 21 (VOC) and 91 (COCO) outputs",
    )
    options = parser.parse_args(arguments)
    try:
        if options.command == "info":
            print(f"{options.file}\n{describe(read(options.file, options.classes))}")
        else:
            weights = read(options.source, options.classes)
            write(options.target, weights)
            print(f"wrote {options.target}: {len(weights.classes)} classes")
    except (WeightsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
