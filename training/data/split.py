# SPDX-License-Identifier: Apache-2.0
"""Divides images into image sets, so that a recording is in one of them only.

Neighbouring frames of a video show the same objects: with some in the training and some in the
validation set, the mAP says how well a network remembers.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

NAMES = {1: ("train",), 2: ("train", "test"), 3: ("train", "val", "test")}
_EXPORTED = re.compile(r"(_(jpe?g|png|bmp|webp))?\.rf\.[0-9a-zA-Z]+$")  # Roboflow's copies
_NUMBER = re.compile(r"\d+(?=\D*$)")  # the last one: that of the frame
_SEPARATORS = " _-.#=()["
_FRAME_WORDS = re.compile(r"(frame|img|image|t|f|n)$", re.IGNORECASE)
_MAX_SHARE = 0.4  # of all images in one recording: else its name is that of the whole dataset


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
) -> tuple[dict[str, list[str]], int]:
    """Divides images at random, those of one recording together.

    Args:
        names: paths of the images with `/`, different from each other.
        fractions: of the sets train,test or train,val,test.
        seed: of the order.

    Returns:
        The images of each set with a fraction above 0, in the order of `names`; and the number of
        recordings that their names tell, 0 if they tell none.

    Raises:
        ValueError: there are fewer recordings or images than sets.
    """
    titles = [name for name, f in zip(NAMES[len(fractions)], fractions, strict=True) if f > 0]
    shares = [fraction for fraction in fractions if fraction > 0]
    groups = recordings(names)
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
    parts = {t: [n for n in names if n in m] for t, m in zip(titles, members, strict=True)}
    return parts, len(groups) if len(groups) < len(names) else 0


def recordings(names: Sequence[str]) -> dict[str, list[str]]:
    """The images of each recording; an image whose name tells none is alone.

    A recording is a folder, or what names have in common before the number of the frame. A name
    that is common to most images (`IMG_1`, `IMG_2`, …) tells nothing.
    """
    by_prefix = [_recording(name) for name in names]
    counts = Counter(by_prefix)
    folders = Counter(prefix.rpartition("/")[0] for prefix in by_prefix)
    groups: dict[str, list[str]] = defaultdict(list)
    for name, prefix in zip(names, by_prefix, strict=True):
        folder = prefix.rpartition("/")[0]
        if prefix.rpartition("/")[2] and counts[prefix] <= _MAX_SHARE * len(names):
            groups[prefix].append(name)
        elif folder and folders[folder] <= _MAX_SHARE * len(names):
            groups[f"{folder}/"].append(name)
        else:  # copies of one image that were exported together stay together
            groups[_stem(name)].append(name)
    return dict(groups)


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
