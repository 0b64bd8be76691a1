"""How frames of videos are grouped: whole where there are many videos, in blocks with gaps where there are few."""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clip_factory.images import scan as images
from clip_factory.images.clip_groups import GAP, MIN_BLOCK, MIN_CLIPS, group_clips
from clip_factory.images.fixed_camera import BLOCKS, split_into_blocks
from clip_factory.images.frame_names import clip_of, frame_name, time_of
from clip_factory.images.sources import locate
from clip_factory.scenario import Images
from clip_factory.splits import assign
from support.videos import texture, write_video


def shot(seed: int, count: int, step: int = 1) -> list[Image.Image]:
    """A camera that moves slowly over a picture: each frame is like the one before it."""
    wide = texture(seed, (64 + step * count, 48))
    return [wide.crop((step * number, 0, step * number + 64, 48)) for number in range(count)]


def scanned(folder: Path, every: str = "1s") -> pa.Table:
    store = folder.parent / "store"
    return images.scan(locate(Images(path=str(folder), every=every), store), store / "scan.sqlite", lambda *_: None)


def used(table: pa.Table) -> list[tuple[str, int]]:
    return [(row["path"], row["group"]) for row in table.to_pylist() if row["reason"] is None]


def splits(table: pa.Table, seed: int) -> dict[str, str]:
    rows = [row for row in table.to_pylist() if row["reason"] is None]
    names = [f"{number}{row['sha256']}" for number, row in enumerate(rows)]
    labels = [number % 3 == 0 for number in range(len(rows))]
    return dict(
        zip([row["path"] for row in rows], assign(names, [row["group"] for row in rows], labels, seed), strict=True)
    )


def test_no_video_straddles_train_and_test(tmp_path: Path) -> None:
    for clip in range(MIN_CLIPS):
        frames = [*shot(10 * clip, 4, 2), *shot(10 * clip + 1, 3, 2)]
        write_video(tmp_path / "films" / f"c{clip}.mp4", frames, every=1000)
    table = scanned(tmp_path / "films")

    groups = defaultdict(set)
    for path, group in used(table):
        groups[clip_of(path)].add(group)
    assert [len(of_clip) for of_clip in groups.values()] == [1] * MIN_CLIPS
    assert len(set.union(*groups.values())) == MIN_CLIPS, "and different videos are free of each other"
    for seed in range(5):
        split_of = splits(table, seed)
        assert all(len({split for path, split in split_of.items() if clip_of(path) == clip}) == 1 for clip in groups)
    assert images.frames_of_videos(table) == (
        f"each of {MIN_CLIPS} videos is in one split, with all that looks like it",
        False,
    )


def test_a_photo_that_looks_like_a_frame_goes_with_the_whole_video(tmp_path: Path) -> None:
    for clip in range(MIN_CLIPS):
        write_video(tmp_path / "films" / f"c{clip}.mp4", shot(clip, 2) + shot(50 + clip, 2), every=1000)
    shot(53, 1)[0].save(tmp_path / "films" / "photo.png")
    texture(99).save(tmp_path / "films" / "other.png")

    groups = dict(used(scanned(tmp_path / "films")))
    assert groups["photo.png"] == groups["c3.mp4/000000.000s.jpg"]
    assert groups["other.png"] not in {group for path, group in groups.items() if path != "other.png"}


def test_many_videos_of_one_camera_are_split_by_video_and_the_warning_says_so(tmp_path: Path) -> None:
    for clip in range(MIN_CLIPS + 2):
        frames = shot(7, 6)
        for number, frame in enumerate(frames):
            frame.putpixel((clip, number), (255, 0, 0))
        write_video(tmp_path / "films" / f"c{clip}.mp4", frames, every=1000)
    table = scanned(tmp_path / "films")

    pairs = {(clip_of(path), group) for path, group in used(table)}
    assert len(pairs) == len({group for _, group in pairs}) == MIN_CLIPS + 2
    sentence, doubtful = images.frames_of_videos(table)
    assert doubtful
    assert sentence.startswith("warning: 72 of 72 photos are of videos that look alike.")


@pytest.mark.parametrize("scenes", [1, 3, 12])
def test_one_long_video_is_split_by_blocks_with_gaps_between_them(tmp_path: Path, scenes: int) -> None:
    frames = [frame for scene in range(scenes) for frame in shot(scene, 240 // scenes)]
    write_video(tmp_path / "films" / "long.mp4", frames, every=500)
    table = scanned(tmp_path / "films", "500ms")

    groups = used(table)
    assert images.frames_of_videos(table)[1]
    assert len({group for _, group in groups}) >= 10, "enough to split"
    left_out = [row["path"] for row in table.to_pylist() if row["reason"] == GAP]
    assert 0 < len(left_out) <= 2 * BLOCKS
    assert len(groups) + len(left_out) == 240
    for (one, its_group), (other, other_group) in pairwise(groups):
        assert its_group == other_group or time_of(other) - time_of(one) >= 1000, "a gap of a frame at least"
    for seed in range(5):
        assert set(splits(table, seed).values()) == {"train", "val", "test"}


def test_blocks_end_where_scenes_do(tmp_path: Path) -> None:
    lengths = [22, 17, 20, 25, 18, 21, 19, 23]
    frames = [frame for scene, length in enumerate(lengths) for frame in shot(scene, length)]
    write_video(tmp_path / "films" / "long.mp4", frames, every=500)

    rows = scanned(tmp_path / "films", "500ms").to_pylist()
    last_of_blocks = {time_of(row["path"]) // 500 + 1 for row in rows if row["reason"] == GAP}
    ends_of_scenes = {sum(lengths[: number + 1]) for number in range(len(lengths) - 1)}
    assert ends_of_scenes <= last_of_blocks


def test_few_videos_among_many_photos_are_kept_whole(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / "films").mkdir(exist_ok=True)
        texture(number).save(tmp_path / "films" / f"p{number}.png")
    write_video(tmp_path / "films" / "gate.mp4", shot(100, 6, 3) + shot(101, 6, 3), every=1000)

    groups = dict(used(scanned(tmp_path / "films")))
    assert len({group for path, group in groups.items() if clip_of(path)}) == 1
    assert len(set(groups.values())) == 31


# --- the rule by itself


def hashes(count: int, seed: int = 0) -> list[tuple[str, str]]:
    source = random.Random(seed)
    return [(f"{source.getrandbits(64):016x}", f"{source.getrandbits(64):016x}") for _ in range(count)]


def test_without_videos_groups_are_those_of_photos() -> None:
    paths = [f"{number}.jpg" for number in range(100)]
    for near in ([0] * 100, list(range(100)), [number // 3 for number in range(100)]):
        grouped = group_clips(paths, paths, hashes(100), near)
        assert (grouped.groups, grouped.camera) == split_into_blocks(paths, paths, near)
        assert (grouped.says, grouped.doubtful) == ("", False)


def test_photos_of_a_fixed_camera_are_cut_into_blocks_beside_videos_too() -> None:
    paths = [f"p{number:03}.jpg" for number in range(100)] + [f"a.mp4/{frame_name(number)}" for number in range(5)]
    grouped = group_clips(paths, paths, hashes(105), [0] * 100 + [1, 2, 3, 4, 5])

    assert grouped.camera == 100
    assert len(set(grouped.groups[:100])) == BLOCKS
    assert len(set(grouped.groups[100:])) == 1


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=15),
    st.integers(0, 40),
    st.integers(1, 60),
    st.integers(0, 2**32),
)
def test_whatever_the_set_frames_of_a_group_are_kept_together(
    lengths: list[int], photos: int, kinds: int, seed: int
) -> None:
    paths = [f"c{clip:02}.mp4/{frame_name(1000 * number)}" for clip, n in enumerate(lengths) for number in range(n)]
    paths += [f"p{number}.jpg" for number in range(photos)]
    near = np.random.default_rng(seed).integers(0, kinds, len(paths)).tolist()
    grouped = group_clips(paths, paths, hashes(len(paths), seed), near)

    assert len(grouped.groups) == len(paths)
    kept = [group for group in grouped.groups if group >= 0]
    assert list(dict.fromkeys(kept)) == list(range(len(set(kept)))), "numbered by first appearance"
    by_clip = defaultdict(list)
    for path, group in zip(paths, grouped.groups, strict=True):
        by_clip[clip_of(path)].append(group)
    by_clip.pop(None, None)
    few = len(lengths) < MIN_CLIPS and sum(lengths) > len(paths) / 2
    for groups in by_clip.values():
        if few:
            assert sum(group == -1 for group in groups) <= len(groups) / MIN_BLOCK
            assert all(-1 in pair or pair[0] == pair[1] for pair in pairwise(groups)), "no border without a gap"
        else:
            assert set(groups) != {-1} and len(set(groups)) == 1
