# SPDX-License-Identifier: Apache-2.0
"""Image sets are random, repeatable, and never divide a recording."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_dataset import make_set

from training.data import voc
from training.data.split import parse_fractions, recordings, split
from training.voc import main


def test_frames_of_a_video_stay_together():
    names = [
        f"{video}_frame_{i:03d}.jpg" for video in ("a1", "b", "c", "d", "e") for i in range(20)
    ]
    parts, count = split(names, (0.6, 0.2, 0.2), seed=0)
    assert count == 5
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
    assert len(recordings(names)) == count


@settings(max_examples=200, deadline=None)
@given(
    names=st.lists(st.from_regex(r"\A(a/|b/)?[xyz]?_?[0-9]{1,2}\.png\Z"), unique=True, max_size=60),
    seed=st.integers(0, 2**32),
)
def test_every_image_is_in_exactly_one_set_and_a_recording_too(names, seed):
    fractions = (0.7, 0.2, 0.1)
    groups = recordings(names)
    assert Counter(name for group in groups.values() for name in group) == Counter(names)
    if len(groups) < 3:
        with pytest.raises(ValueError, match="cannot divide"):
            split(names, fractions, seed)
        return
    parts, _ = split(names, fractions, seed)
    assert (parts, _) == split(names, fractions, seed)
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
