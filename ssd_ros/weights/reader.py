# SPDX-License-Identifier: Apache-2.0
"""The one way to read weights files; no code in them is ever executed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ssd_ros.weights.containers import Arrays, Header, load_floats, open_file
from ssd_ros.weights.layout import Layout, UnnamedClassesError, some
from ssd_ros.weights.layouts import LAYOUTS, REFUSED
from ssd_ros.weights.names import resolve
from ssd_ros.weights.weights import Weights, WeightsError


def read(path: str | Path, classes: Sequence[str] | None = None, unnamed: bool = False) -> Weights:
    """Weights from a native file, or from a state dict of a known family (`layouts`).

    No code in a file is ever executed, and PyTorch is not needed.

    Args:
        path: `.safetensors`, or a `.pth` with a state dict; `demo` for those in the package.
        classes: class names without the background, for a foreign file that has none of its
            own. Those that a family trained on VOC or COCO need none: the number tells them.
        unnamed: whether classes may have no names; they are called `unnamed 1`, … then.

    Returns:
        weights whose tensors are NumPy arrays of the file's types, float32 for bfloat16.

    Raises:
        WeightsError: the file is missing, damaged, of another network, or holds tensors that are
            missing, misshapen or not finite.
    """
    path = resolve(path)
    try:
        return parse(*open_file(path), classes, unnamed)
    except UnnamedClassesError as error:
        raise WeightsError(
            f"weights file '{path}': {error}; convert it: {error.fix(path)}"
        ) from None
    except ValueError as error:
        raise WeightsError(f"weights file '{path}': {error}") from None
    except Exception as error:  # no file may end the node, whatever is in it
        reason = f"{type(error).__name__}: {error}"
        raise WeightsError(f"weights file '{path}' is unusable ({reason})") from error


def parse(
    header: Header,
    load: Callable[[], Arrays],
    classes: Sequence[str] | None = None,
    unnamed: bool = False,
) -> Weights:
    """Weights from an open file; as `read`, but errors do not name the file.

    Args:
        header, load: as `containers.open_file` returns them.
        classes, unnamed: as in `read`.
    """
    layout = _choose_layout(header)
    arrays = load_floats(header, load)
    try:
        return layout.convert(arrays, header, classes)
    except UnnamedClassesError as error:
        if not unnamed:
            raise
        names = [f"unnamed {number}" for number in range(1, error.count + 1)]
        return layout.convert(arrays, header, names)


def _choose_layout(header: Header) -> Layout:
    """The layout of a file.

    Raises:
        WeightsError: it is of none; a near miss is told by what is wrong with it.
    """
    mismatches = []
    for layout in LAYOUTS:
        mismatch = layout.inspect(header)
        if mismatch is None:
            return layout
        mismatches.append(mismatch)
    mismatches += filter(None, (family.inspect(header) for family in REFUSED))
    nearest = max(mismatches, key=lambda mismatch: (mismatch.near, mismatch.matching))
    if nearest.near:
        raise WeightsError(f"looks like {nearest.family}, but {nearest}")
    found = some(sorted(header.shapes)) if header.shapes else "no tensor"
    marks = " nor ".join(layout.MARK for layout in LAYOUTS)
    raise WeightsError(f"is not an SSD checkpoint: found neither {marks}, but {found}")
