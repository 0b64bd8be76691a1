"""The label source `x-clip`: the library's own answer for a video's frames, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, XCLIPModel

from clip_factory.encoders import EmbeddingStore
from clip_factory.errors import ImagesError, ScenarioError, TeacherError
from clip_factory.images.photo import Photo
from clip_factory.images.sources import locate
from clip_factory.label_sources.labeling import question_hash, score
from clip_factory.label_sources.source import find_label_source
from clip_factory.label_sources.x_clip import XClip, load_x_clip
from clip_factory.runtime.video_frames import frames_at
from clip_factory.scenario import Images, Scenario
from support.tiny_x_clip import save_tiny_x_clip
from support.videos import texture, write_video

SECONDS = 6
TIMES = [750, 2250, 3750, 5250]
"""Milliseconds: the middles of four equal parts, for a model that looks at four frames."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_x_clip(tmp_path_factory.mktemp("x-clip"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of two videos, and a photo."""
    folder = tmp_path_factory.mktemp("yard")
    for name, seed in (("gate", 0), ("door", 100)):
        write_video(folder / "yard" / f"{name}.mp4", [texture(seed + n) for n in range(5 * SECONDS)])
    texture(500).save(folder / "yard" / "photo.png")
    return locate(Images(path=str(folder / "yard")), folder / "store")


def scenario(checkpoint: Path, **changes: object) -> Scenario:
    labels = {"source": "x-clip", "model": f"local-dir:{checkpoint}"}
    tree = {"name": "gate", "positive": ["open gate"], "negative": ["shut gate", "wall"], "labels": labels} | changes
    return Scenario.model_validate(tree)


def frames(root: Path, clip: str) -> list[Photo]:
    return [Photo.of(file) for file in sorted((root / clip).iterdir())]


def answer(checkpoint: Path, film: Path, prompts: list[str]) -> np.ndarray:
    """What transformers says by itself: logits of one prompt a phrase, softmax."""
    processor, model = AutoProcessor.from_pretrained(checkpoint), XCLIPModel.from_pretrained(checkpoint)
    images = [sample.image for sample in frames_at(film, TIMES)]
    with torch.no_grad():
        inputs = processor(text=prompts, videos=images, return_tensors="pt", padding=True)
        return model(**inputs).logits_per_video.softmax(dim=1)[0].numpy()


def test_every_frame_has_the_scores_of_its_video(checkpoint: Path, root: Path) -> None:
    asked = scenario(checkpoint, templates=["a video of a {}"])
    source = load_x_clip(asked)
    photos = [*frames(root, "gate.mp4"), *frames(root, "door.mp4")]
    scores = source.score(photos, asked)

    prompts = [f"a video of a {phrase}" for phrase in ("open gate", "shut gate", "wall")]
    of_gate, of_door = (answer(checkpoint, film, prompts) for film in _films(root))
    assert len(photos) == 6
    np.testing.assert_allclose(scores.by_phrase, [of_gate] * 3 + [of_door] * 3, atol=1e-5)
    assert np.abs(of_gate - of_door).max() > 1e-3


def _films(root: Path) -> list[Path]:
    yard = root.parents[2] / "yard"
    return [yard / "gate.mp4", yard / "door.mp4"]


def test_prompts_of_a_phrase_are_averaged(checkpoint: Path, root: Path) -> None:
    photos = frames(root, "gate.mp4")[:1]

    def logits(*templates: str) -> np.ndarray:
        asked = scenario(checkpoint, templates=list(templates))
        p = np.log(load_x_clip(asked).score(photos, asked).by_phrase[0])
        return p - p.mean()

    both = logits("a video of a {}", "the {}")
    np.testing.assert_allclose(both, (logits("a video of a {}") + logits("the {}")) / 2, atol=1e-4)


def test_a_video_is_read_once_whatever_the_order_of_its_frames(
    checkpoint: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    whole = XClip._frames
    monkeypatch.setattr(XClip, "_frames", lambda self, clip: read.append(clip.file) or whole(self, clip))
    asked = scenario(checkpoint)
    source = load_x_clip(asked)
    one, other = frames(root, "gate.mp4"), frames(root, "door.mp4")

    for batch in zip(one, other, strict=True):
        source.score(batch, asked)
    assert read == _films(root)


def test_a_video_shorter_than_its_frames_is_filled_up(checkpoint: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "films" / "short.mp4", [texture(1)])
    root = locate(Images(path=str(tmp_path / "films")), tmp_path / "store")
    asked = scenario(checkpoint)

    assert load_x_clip(asked).score(frames(root, "short.mp4"), asked).by_phrase.sum() == pytest.approx(1)


def test_scores_are_kept_by_checkpoint_and_question(checkpoint: Path, root: Path, tmp_path: Path) -> None:
    asked, store = scenario(checkpoint), EmbeddingStore(tmp_path / "store")
    source = find_label_source(asked)(asked, None, store)
    photos = frames(root, "gate.mp4")
    first = score(source, photos, asked, store)

    source.score = None  # whatever is asked again fails
    np.testing.assert_array_equal(score(source, photos, asked, store).by_phrase, first.by_phrase)
    assert source.about["name"] == f"local-dir:{checkpoint}"
    assert question_hash(asked) != question_hash(scenario(checkpoint, positive=["closed gate"]))


def test_a_photo_that_is_no_frame_is_refused(checkpoint: Path, root: Path) -> None:
    asked = scenario(checkpoint)

    with pytest.raises(ImagesError, match=r"photo\.png: a photo, not a frame of a video"):
        load_x_clip(asked).score([Photo.of(root / "photo.png")], asked)


def test_a_video_that_changed_or_is_gone_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    film = write_video(tmp_path / "films" / "gate.mp4", [texture(n) for n in range(10)])
    photos = frames(locate(Images(path=str(tmp_path / "films")), tmp_path / "store"), "gate.mp4")
    asked = scenario(checkpoint)
    write_video(film, [texture(50 + n) for n in range(10)])

    with pytest.raises(ImagesError, match=r"gate\.mp4: it has changed since its frames were sampled"):
        load_x_clip(asked).score(photos, asked)
    film.unlink()
    with pytest.raises(ImagesError, match=r"gate\.mp4: No such file or directory: it could be read"):
        load_x_clip(asked).score(photos, asked)


def test_a_phrase_that_is_too_long_is_refused(checkpoint: Path, root: Path) -> None:
    asked = scenario(checkpoint, positive=["open gate " * 10])

    with pytest.raises(ScenarioError, match=r"has \d+ tokens, and the model local-dir:.* reads 77"):
        load_x_clip(asked).score(frames(root, "gate.mp4"), asked)


def test_what_is_no_x_clip_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    (tmp_path / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    with pytest.raises(TeacherError, match="hf-hub:microsoft/xclip-base-patch32"):
        load_x_clip(scenario(tmp_path))


def test_where_no_model_is_named_files_and_hashes_stay(checkpoint: Path) -> None:
    plain = Scenario(name="gate", positive=["gate"])

    assert plain.labels.model_dump() == {"source": "zero-shot", "refine": "auto"}
    assert "model" in scenario(checkpoint).labels.model_dump()
