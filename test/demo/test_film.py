# SPDX-License-Identifier: Apache-2.0
"""The animation in README: every image in its order, in a file that is small enough."""

import numpy as np
import pytest
from PIL import Image

from demo import film


@pytest.fixture
def folder(tmp_path):
    """Four noisy images, each brighter than the one before."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(4):
        pixels = rng.integers(0, 60, (90, 120, 3), dtype=np.uint8) + 60 * number
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"frame_{number}.png")
    return folder


def test_the_film_shows_every_image_in_the_order_of_the_names(folder, tmp_path):
    out = tmp_path / "film.webp"
    assert film.main([str(folder), str(out), "--width", "60", "--rate", "5"]) == 0
    brightness, durations = [], []
    with Image.open(out) as opened:
        assert opened.size == (60, 45)
        for number in range(opened.n_frames):
            opened.seek(number)
            brightness.append(np.asarray(opened.convert("L")).mean())
            durations.append(opened.info["duration"])
    assert durations == [200] * 4
    assert brightness == pytest.approx([30, 90, 150, 210], abs=5)


def test_the_quality_is_reduced_until_the_film_has_the_size(folder, tmp_path):
    out = tmp_path / "film.webp"
    film.main([str(folder), str(out), "--width", "120"])
    best = out.stat().st_size
    limit = 0.8 * best
    assert film.main([str(folder), str(out), "--width", "120", "--limit", str(limit / 1e6)]) == 0
    assert out.stat().st_size <= limit


def test_a_film_that_cannot_be_small_enough_is_an_error_that_says_what_to_do(
    folder, tmp_path, capsys
):
    out = tmp_path / "film.webp"
    assert film.main([str(folder), str(out), "--limit", "0.0001"]) == 1
    assert "expected at most 100: use a smaller --width" in capsys.readouterr().err
    assert not out.exists()
