"""Frames of a camera that never moves: split by blocks, with a word on what the figures are worth."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from clip_factory.images import scan as images
from clip_factory.images.fixed_camera import BLOCKS, MIN_FRAMES, split_into_blocks, warning
from clip_factory.splits import assign


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 frames of one background with a clock, a ball in every second stretch of ten."""
    folder = tmp_path_factory.mktemp("camera") / "frames"
    folder.mkdir()
    background = Image.fromarray(np.random.default_rng(0).integers(60, 200, (6, 8, 3), dtype=np.uint8)).resize(
        (160, 120)
    )
    for number in range(200):
        frame = background.copy()
        draw = ImageDraw.Draw(frame)
        draw.text((4, 4), f"12:{number // 60:02}:{number % 60:02}", fill="white")
        if number // 10 % 2:
            draw.ellipse((70 + number % 7, 60, 86 + number % 7, 76), fill="red")
        frame.save(folder / f"frame{number}.png")
    return folder


def test_frames_of_a_fixed_camera_are_split_by_blocks(camera: Path) -> None:
    table = images.scan(camera, camera.parent / "scan.sqlite", lambda done, total: None)
    rows = table.to_pylist()
    by_number = {int(row["path"][5:-4]): row["group"] for row in rows}
    assert [by_number[n] for n in range(200)] == [by_number[n // 10 * 10] for n in range(200)], "blocks of neighbors"
    assert set(Counter(by_number.values()).values()) == {10}
    assert images.frames_of_a_fixed_camera(table) == 200
    answers = [int(row["path"][5:-4]) // 10 % 2 == 1 for row in rows]
    splits = assign([row["sha256"] for row in rows], [row["group"] for row in rows], answers, 0)
    for name in ("train", "val", "test"):
        assert len({answer for answer, split in zip(answers, splits, strict=True) if split == name}) == 2, name
    assert warning(200, 200) == (
        "warning: 200 of 200 photos look alike, as frames of a fixed camera do: one near-duplicate group, which is"
        " split by 20 blocks in the order of names. Test photos show the same place as training photos: the figures"
        " hold for this camera, and for no other"
    )


def names(count: int) -> list[str]:
    return [f"{i}.jpg" for i in range(count)]


def test_groups_that_leave_room_stay_as_they_are() -> None:
    burst = [0] * (MIN_FRAMES - 1)
    assert split_into_blocks(names(len(burst)), names(len(burst)), burst) == (burst, 0), "too few frames"
    half = [0] * MIN_FRAMES + list(range(1, MIN_FRAMES + 2))
    assert split_into_blocks(names(len(half)), names(len(half)), half) == (half, 0), "less than half of all"
    assert split_into_blocks([], [], []) == ([], 0)


def test_other_photos_keep_their_groups_and_copies_stay_together() -> None:
    groups = [7] * MIN_FRAMES + [3, 3, 5]
    contents = [*names(MIN_FRAMES)[:-1], "0.jpg", "a", "b", "c"]
    cut, frames = split_into_blocks(names(len(groups)), contents, groups)
    assert frames == MIN_FRAMES
    assert cut[MIN_FRAMES - 1] == cut[0], "a copy of the first frame"
    assert cut[-3] == cut[-2] != cut[-1]
    assert set(cut[:MIN_FRAMES]).isdisjoint(cut[MIN_FRAMES:])
    assert len(set(cut[:MIN_FRAMES])) == BLOCKS


def test_numbers_in_names_count_as_numbers() -> None:
    paths = [f"cam/{'b' if i >= 40 else 'a'}/frame{i}.jpg" for i in range(80)]
    cut, _ = split_into_blocks(paths, paths, [0] * 80)
    assert cut == [i // 4 for i in range(80)]
