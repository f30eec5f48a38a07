# SPDX-License-Identifier: Apache-2.0
"""Divides images into image sets, so that a recording is in one of them only.

Neighbouring frames of a video show the same objects: with some in the training and some in the
validation set, the mAP says how well a network remembers. A recording that is too large for one
set is divided into blocks of successive images, so that only those at the ends of blocks have a
neighbour in another set.
"""

from __future__ import annotations

import math
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ssd_ros.command_line import plural

NAMES = {1: ("train",), 2: ("train", "test"), 3: ("train", "val", "test")}
_EXPORTED = re.compile(r"(_(jpe?g|png|bmp|webp))?\.rf\.[0-9a-zA-Z]+$")  # Roboflow's copies
_NUMBER = re.compile(r"\d+(?=\D*$)")  # the last one: that of the frame
_SEPARATORS = " _-.#=()["
_FRAME_WORDS = re.compile(r"(frame|img|image|t|f|n)$", re.IGNORECASE)
_MAX_SHARE = 0.4  # of all images in one recording: else it is divided
_BLOCKS = 2  # of a divided recording in the smallest set, where it has all images


@dataclass(frozen=True)
class Groups:
    """Images that have to be in the same set.

    Attributes:
        members: the images of each group.
        divided: recordings that are divided into blocks.
        blocks: the groups that are such blocks.
    """

    members: dict[str, list[str]]
    divided: int
    blocks: int

    def __str__(self) -> str:
        images = sum(map(len, self.members.values()))
        if len(self.members) == images:
            return "by image, as names and folders tell no recordings"
        others = len(self.members) - self.blocks
        texts = []
        if self.blocks:
            texts.append(
                f"in {self.blocks} blocks of successive images, as {self.divided} numbered series "
                f"with more than {_MAX_SHARE:.0%} of the images cannot be in one set (neighbours "
                "where blocks meet may be in different sets)"
            )
        if others:
            texts.append(
                f"in {plural(others, 'group')} of images, by recording where names tell it"
            )
        return ", and ".join(texts)


def parse_fractions(text: str) -> tuple[float, ...]:
    """Fractions for train,test or train,val,test, which sum to 1.

    Raises:
        ValueError: the text is something else.
    """
    try:
        fractions = tuple(float(part) for part in text.split(","))
    except ValueError:
        fractions = ()
    if len(fractions) not in NAMES or not all(0 <= f <= 1 for f in fractions) or fractions[0] == 0:
        raise ValueError(f"expected fractions as in 0.8,0.2 or 0.8,0.1,0.1, got '{text}'")
    if not math.isclose(sum(fractions), 1, abs_tol=0.005):
        raise ValueError(f"the fractions {text} sum to {sum(fractions):g}, expected 1")
    return fractions


def split(
    names: Sequence[str], fractions: Sequence[float], seed: int
) -> tuple[dict[str, list[str]], Groups]:
    """Divides images at random, those of one group together.

    Args:
        names: paths of the images with `/`, different from each other.
        fractions: of the sets train,test or train,val,test.
        seed: of the order.

    Returns:
        The images of each set with a fraction above 0, in the order of `names`; and the groups.

    Raises:
        ValueError: there are fewer groups than sets.
    """
    titles = [name for name, f in zip(NAMES[len(fractions)], fractions, strict=True) if f > 0]
    shares = [fraction for fraction in fractions if fraction > 0]
    found = find_groups(names, min(shares))
    groups = found.members
    if len(groups) < len(titles):
        raise ValueError(f"cannot divide {len(names)} images into the sets {', '.join(titles)}")
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda group: -len(groups[group]))  # stable: the large ones first
    set_of: dict[str, int] = {}
    missing = [share * len(names) for share in shares]
    for position, group in enumerate(order):
        empty = [k for k in range(len(shares)) if k not in set_of.values()]
        candidates = empty if len(empty) >= len(order) - position else range(len(shares))
        chosen = max(candidates, key=lambda k: missing[k])
        set_of[group] = chosen
        missing[chosen] -= len(groups[group])
    members: list[set[str]] = [set() for _ in shares]
    for group, chosen in set_of.items():
        members[chosen].update(groups[group])
    return {t: [n for n in names if n in m] for t, m in zip(titles, members, strict=True)}, found


def find_groups(names: Sequence[str], smallest: float) -> Groups:
    """Groups images by recording; an image whose name tells none is alone.

    A recording is a folder, or what names have in common before the number of the frame. One with
    most of the images (`IMG_1`, `IMG_2`, …) is divided into blocks of successive images.

    Args:
        names: see `split`.
        smallest: share of the images in the smallest set.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[_recording(name)].append(name)
    large = [group for group in groups.values() if len(group) > _MAX_SHARE * len(names)]
    blocks = [
        block
        for recording in large
        for block in _blocks(recording, smallest * len(names) / _BLOCKS)
    ]
    members = {key: group for key, group in groups.items() if group not in large}
    members |= {f"/{block[0]}": block for block in blocks}  # as no recording is named
    return Groups(members, len(large), len(blocks))


def _blocks(recording: Sequence[str], size: float) -> list[list[str]]:
    """Successive images, about `size` in each block, but at least one.

    Copies of one image that were exported together stay together.
    """
    frames: dict[str, list[str]] = defaultdict(list)
    for name in recording:
        frames[_stem(name)].append(name)
    order = sorted(frames, key=_by_number)
    count = min(len(order), math.ceil(len(recording) / size))
    ends = [len(order) * k // count for k in range(count + 1)]
    return [
        [name for stem in order[first:end] for name in frames[stem]]
        for first, end in pairwise(ends)
    ]


def _by_number(stem: str) -> list[str | int]:
    """A key that sorts 2 before 10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", stem))]


def _recording(name: str) -> str:
    """The name without the number of the frame; ends in / where only its folder is left."""
    folder, slash, file_name = name.rpartition("/")
    stem = _stem(file_name)
    match = _NUMBER.search(stem)
    if match is None:
        return folder + slash + stem
    prefix = stem[: match.start()].rstrip(_SEPARATORS)
    if not match.start():
        return folder + slash
    return folder + slash + _FRAME_WORDS.sub("", prefix).rstrip(_SEPARATORS)


def _stem(name: str) -> str:
    """Without the suffix, and without what tells copies of one image from each other."""
    return _EXPORTED.sub("", name.rpartition(".")[0] or name)
