# SPDX-License-Identifier: Apache-2.0
"""What a family of state dicts has to tell: whether a file is of it, and how to convert it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ssd_ros.model.layers import Shape
from ssd_ros.weights.containers import Arrays, Header
from ssd_ros.weights.weights import Weights


class UnnamedClassesError(ValueError):
    """A file without class names, whose number of classes does not tell its dataset.

    Attributes:
        count: number of classes, without the background.
    """

    def __init__(self, count: int) -> None:
        super().__init__(f"has {count} classes but no class names")
        self.count = count

    def fix(self, file: Path) -> str:
        """The command that gives the classes of a file names."""
        names = ",".join(f"NAME{number + 1}" for number in range(min(self.count, 2)))
        more = ",…" if self.count > 2 else ""
        source, target = shlex.quote(str(file)), shlex.quote(f"{file.stem}.safetensors")
        return f"python -m ssd_ros.weights convert {source} {target} --classes {names}{more}"


@dataclass(frozen=True)
class Mismatch:
    """Why a file is not of a family; near misses are told from files of other networks.

    Attributes:
        family: name of the layout.
        missing: names of tensors that the family has and the file does not.
        extra: names of tensors that the file has and the family does not.
        misshapen: name, shape in the file and expected shape of other tensors.
        matching: number of tensors that the file and the family have in common.
        note: what the expected shapes are for, or, without any, what else is wrong.
        hint: what the network is instead, for a file that is certainly of the family's code.
    """

    family: str
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    misshapen: tuple[tuple[str, Shape, Shape], ...] = ()
    matching: int = 0
    note: str = ""
    hint: str = ""

    @property
    def near(self) -> bool:
        """Whether the file is of the family, but for mistakes: most of its tensors are there."""
        return bool(self.hint) or self.matching > len(self.missing)

    def __str__(self) -> str:
        reasons = [self.hint] if self.hint else []
        if self.missing:
            reasons.append(f"lacks {some(self.missing)}")
        if self.extra:
            reasons.append(f"holds {some(self.extra)}, which the network does not have")
        reasons += [
            f"tensor '{key}' has shape {found}, expected {expected} {self.note}".rstrip()
            for key, found, expected in self.misshapen[:3]
        ]
        if len(self.misshapen) > 3:
            reasons.append(f"{len(self.misshapen) - 3} more tensors have other shapes")
        if self.note and not self.misshapen:
            reasons.append(self.note)
        return "; ".join(reasons)


class Family(Protocol):
    """A family that is recognised; a module with these names is one.

    Attributes:
        FAMILY: its name in messages.
    """

    FAMILY: str

    def inspect(self, header: Header) -> Mismatch | None:
        """Compares a file's header with the family, before any tensor is read.

        Returns:
            None for a file of the family.

        Raises:
            ValueError: the file claims to be of the family, but its metadata are unusable.
        """


class Layout(Family, Protocol):
    """A family that can be read.

    Attributes:
        MARK: what its files are recognised by, for the message about a file of no family.
    """

    MARK: str

    def convert(
        self, tensors: Arrays, header: Header, class_names: Sequence[str] | None
    ) -> Weights:
        """Weights from the tensors of a file for which `inspect` returned None.

        Args:
            tensors: as read.
            header: of the file.
            class_names: names without the background; None for the file's own.

        Raises:
            UnnamedClassesError: there are no names.
            ValueError: the names are not different, or not as many as the network has.
        """


def compare(
    family: str, shapes: Mapping[str, Shape], expected: Mapping[str, Shape], note: str = ""
) -> Mismatch | None:
    """The difference between the tensors of a file and those of a family; None for no difference.

    Args:
        family: name of the layout.
        shapes: of the file's tensors.
        expected: of the family's tensors.
        note: what the expected shapes are for.
    """
    missing = tuple(key for key in expected if key not in shapes)
    extra = tuple(key for key in shapes if key not in expected)
    misshapen = tuple(
        (key, shapes[key], shape)
        for key, shape in expected.items()
        if key in shapes and shapes[key] != shape
    )
    if not (missing or extra or misshapen):
        return None
    matching = len(expected) - len(missing)
    return Mismatch(family, missing, extra, misshapen, matching, note if misshapen else "")


def check_count(class_names: Sequence[str], count: int) -> None:
    """Raises ValueError where there are more or fewer names than classes."""
    if len(class_names) != count:
        raise ValueError(
            f"has {count} classes besides the background, got {len(class_names)} names: "
            + ", ".join(class_names)
        )


def some(keys: Sequence[str]) -> str:
    """The first few tensor names, for a message."""
    shown = ", ".join(f"'{key}'" for key in keys[:3])
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"tensor{'s' if len(keys) > 1 else ''} {shown}{more}"
