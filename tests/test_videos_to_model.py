"""From a folder of videos to model.onnx and back to a video, by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from clip_factory.images.clip_groups import MIN_CLIPS
from clip_factory.images.frame_names import clip_of, time_of
from clip_factory.labels import Labels
from clip_factory.run_folder import RunFolder
from clip_factory.scenario import load
from support.pictures import draw_shape
from support.videos import write_video

pytestmark = pytest.mark.slow

CLIPS = MIN_CLIPS + 6
SCENARIO = """\
name: disc
positive: [disc]
negative: [bar, stripe]
teacher: {{model: "local-dir:{clip}", batch_size: 16}}
images: {{path: films, every: 500ms}}
student: {{backbone: resnet-mini, image_size: 32, epochs: 12}}
gate: {{recall: 0, precision: 0, balanced_agreement: 0, agreement: 0, gold_accuracy: 0, parity: 0.05}}
"""


def factory(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clip_factory", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def is_disc(clip: int, frame: int) -> bool:
    """A disc in the first or in the second half of a clip."""
    return (frame < 6) == (clip % 2 == 0)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> Path:
    """Clips of six seconds, two frames a second; gold labels of all frames, by paths that a person can write."""
    folder = tmp_path_factory.mktemp("bench")
    rows = ["path,label"]
    for clip in range(CLIPS):
        shapes = [("disc" if is_disc(clip, n) else "bar", 100 * clip + n) for n in range(12)]
        write_video(folder / "films" / f"gate{clip:02}.mp4", [draw_shape(*shape) for shape in shapes], every=500)
        rows += [
            f"gate{clip:02}.mp4/{n // 2:06}.{500 * (n % 2):03}s.jpg,{'yes' if is_disc(clip, n) else 'no'}"
            for n in range(12)
        ]
    (folder / "films" / "broken.mp4").write_bytes(b"\0" * 1000)
    (folder / "gold.csv").write_text("\n".join(rows) + "\n")
    (folder / "disc.yaml").write_text(SCENARIO.format(clip=tiny_clip))
    return folder


def test_a_folder_of_videos_gives_a_model_that_answers_for_videos(bench: Path) -> None:
    done = factory("run", "disc.yaml", "--gold", "gold.csv", "--store", "store", cwd=bench)
    assert done.returncode == 0, done.stderr
    run = RunFolder(bench / done.stdout.splitlines()[-1])
    assert f"{CLIPS} videos, 96 s: {12 * CLIPS} frames, one every 0.5s; 1 left out" in done.stderr
    assert f"each of {CLIPS} videos is in one split" in done.stderr

    labels = Labels.of_run(run)
    split_of = defaultdict(set)
    for path, split in zip(labels.path, labels.split, strict=True):
        split_of[clip_of(path)].add(split)
    assert len(labels) == 12 * CLIPS
    assert [len(splits) for splits in split_of.values()] == [1] * CLIPS
    assert set.union(*split_of.values()) == {"train", "val", "test"}
    assert load(run.file("scenario.yaml")).images.every == "0.5s"

    new = write_video(bench / "new.mp4", [draw_shape("disc", 9000 + n) for n in range(4)], every=500)
    asked = factory("predict", run.path, new, "--every", "500ms", "--format", "json", cwd=bench)
    rows = [json.loads(line) for line in asked.stdout.splitlines()]
    assert asked.returncode == 0, asked.stderr
    assert [row["seconds"] for row in rows] == [0, 0.5, 1, 1.5]

    test = [path for path, split in zip(labels.path, labels.split, strict=True) if split == "test"]
    clip = clip_of(test[0])
    asked = factory("predict", run.path, f"films/{clip}", "--every", "500ms", "--format", "json", cwd=bench)
    answers = {round(1000 * row["seconds"]): row["label"] for row in map(json.loads, asked.stdout.splitlines())}
    number = int(clip.removeprefix("gate").removesuffix(".mp4"))
    meant = {500 * n: "yes" if is_disc(number, n) else "no" for n in range(12)}
    assert sum(answers[time] == meant[time] for time in meant) >= 9, "a clip that training never saw"
    assert {time_of(path) for path in test if clip_of(path) == clip} == set(meant)
