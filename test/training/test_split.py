# SPDX-License-Identifier: Apache-2.0
"""Image sets are random, repeatable, and divide no recording but one with most of the images."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_dataset import make_set

from training.data import voc
from training.data.split import find_groups, parse_fractions, split
from training.voc import main


def test_frames_of_a_video_stay_together():
    names = [
        f"{video}_frame_{i:03d}.jpg" for video in ("a1", "b", "c", "d", "e") for i in range(20)
    ]
    parts, groups = split(names, (0.6, 0.2, 0.2), seed=0)
    assert len(groups.members) == 5
    assert str(groups) == "in 5 groups of images, by recording where names tell it"
    assert {name: len(part) for name, part in parts.items()} == {"train": 60, "val": 20, "test": 20}
    videos = [{name.partition("_")[0] for name in part} for part in parts.values()]
    assert sum(map(len, videos)) == 5


@pytest.mark.parametrize(
    ("names", "count"),
    [
        ([f"ride{k}.mp4#t={i}.jpg" for k in range(3) for i in range(4)], 3),
        ([f"2026-11-0{k}_{i}.png" for k in range(3) for i in range(4)], 3),
        ([f"day{k}/{i}.png" for k in range(3) for i in range(4)], 3),
        ([f"a_{k}_jpg.rf.{i}c{i}d.jpg" for k in range(3) for i in range(4)], 3),  # copies
        ([f"{i:05d}.jpg" for i in range(12)], 12),
        ([f"IMG_{i}.jpg" for i in range(12)], 12),
        ([f"raccoon-{i}.jpg" for i in range(9)] + ["a.jpg", "b.jpg", "c.jpg"], 12),
    ],
)
def test_names_and_folders_tell_recordings(names, count):
    assert len(find_groups(names, 0.1).members) == count


def order_in_sets(names, parts):
    """The set of each image, in the order of the names."""
    set_of = {name: title for title, part in parts.items() for name in part}
    return [set_of[name] for name in names]


@pytest.mark.parametrize("seed", range(5))
def test_a_recording_too_large_for_one_set_is_divided_into_blocks_of_neighbours(seed):
    frames = [f"ride_{i}.jpg" for i in range(1, 301)]  # 10 follows 9, not 1
    other = [f"walk_{i}.jpg" for i in range(100)]
    shuffled = [*other, *sorted(frames)]
    parts, groups = split(shuffled, (0.8, 0.1, 0.1), seed)
    assert {title: len(part) for title, part in parts.items()} == {
        "train": 320, "val": 40, "test": 40,
    }  # fmt: skip
    sets = order_in_sets(frames, parts)
    meet = sum(a != b for a, b in pairwise(sets))
    assert meet <= 8  # both ends of four blocks; of images at random it were about a hundred
    assert len({*order_in_sets(other, parts)}) == 1
    assert str(groups).startswith(
        "in 15 blocks of successive images, as 1 numbered series with more than 40% of the images "
    )
    assert str(groups).endswith(", and in 1 group of images, by recording where names tell it")


def test_copies_of_a_frame_are_in_one_block():
    names = [f"a_{i}_jpg.rf.{k}{i}.jpg" for k in "0123" for i in range(30)]
    parts, _ = split(names, (0.8, 0.1, 0.1), seed=0)
    for part in parts.values():
        assert set(Counter(name.partition("_jpg")[0] for name in part).values()) == {4}


@settings(max_examples=200, deadline=None)
@given(
    names=st.lists(st.from_regex(r"\A(a/|b/)?[xyz]?_?[0-9]{1,2}\.png\Z"), unique=True, max_size=60),
    seed=st.integers(0, 2**32),
)
def test_every_image_is_in_exactly_one_set_and_a_recording_too(names, seed):
    fractions = (0.7, 0.2, 0.1)
    found = find_groups(names, 0.1)
    groups = found.members
    assert Counter(name for group in groups.values() for name in group) == Counter(names)
    if len(groups) < 3:
        with pytest.raises(ValueError, match="cannot divide"):
            split(names, fractions, seed)
        return
    parts, _ = split(names, fractions, seed)
    assert (parts, found) == split(names, fractions, seed)
    assert all(parts.values())
    assert Counter(name for part in parts.values() for name in part) == Counter(names)
    for group in groups.values():
        assert sum(bool(set(group) & set(part)) for part in parts.values()) == 1


def test_another_seed_gives_other_sets():
    names = [f"{i:05d}.jpg" for i in range(100)]
    first, second = (split(names, (0.8, 0.1, 0.1), seed)[0] for seed in (0, 1))
    assert first != second
    assert [len(part) for part in first.values()] == [80, 10, 10]


@pytest.mark.parametrize("text", ["", "0.8", "0.8,0.3", "0,1", "-1,2", "a,b", "0.4,0.3,0.2,0.1"])
def test_other_fractions_are_refused(text):
    with pytest.raises(ValueError, match=r"expected|sum"):
        parse_fractions(text)


def test_the_command_writes_image_sets_and_replaces_none_unasked(tmp_path, capsys):
    root = make_set(tmp_path / "set", images=10)
    main_folder = root / "ImageSets" / "Main"
    before = (main_folder / "test.txt").read_text()
    assert main(["split", str(root), "--split", "0.6,0.2,0.2"]) == 2
    assert "--force replaces them" in capsys.readouterr().err
    assert (main_folder / "test.txt").read_text() == before
    assert main(["split", str(root), "--split", "0.6,0.2,0.2", "--force"]) == 0
    assert "train 6, val 2, test 2" in capsys.readouterr().out
    assert sorted(path.name for path in main_folder.iterdir()) == [
        "test.txt",
        "train.txt",
        "val.txt",
    ]
    assert len(voc.find_images(root, "train+val+test")) == 10
    assert main(["split", str(root), "--split", "0.8,0.2", "--force"]) == 0
    assert len(voc.find_images(root, "trainval")) == 8
