"""Evidence: kept in the shard of its score, whatever dies, and written to the run whole."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clip_factory.errors import PluginError, RunError
from clip_factory.images.photo import Photo
from clip_factory.label_sources import labeling
from clip_factory.label_sources.source import YES_NO, Scores
from clip_factory.label_sources.visual_evidence import (
    MASK_SIDE,
    Box,
    Mask,
    VisualEvidence,
    read_evidence,
    to_arrow,
    write_evidence,
)
from clip_factory.run_folder import EVIDENCE, RunFolder
from clip_factory.scenario import Scenario
from clip_factory.store import EmbeddingStore

CAT = Scenario(name="cat", positive=("cat",))
PHOTOS = [Photo(str(number), Path(f"{number}.jpg")) for number in range(7)]
DISC = Mask.of_pixels("cat", np.eye(6, dtype=bool))


def about(number: int) -> VisualEvidence:
    """What `Pointing` shows: nothing for 0, boxes for the others, and a mask for every third."""
    boxes = tuple(Box("cat", 0.9 - 0.1 * i, 0.1 * i, 0.2, 0.3, 0.4) for i in range(number % 4))
    return VisualEvidence(boxes, DISC if number % 3 == 2 else None)


class Pointing:
    """A label source that shows boxes, and is killed before it has answered `lives` batches."""

    key, about, batch_size = "pointing", {"name": "pointing", "license": "none"}, 2

    def __init__(self, lives: int = 99) -> None:
        self.lives, self.asked = lives, list[str]()

    def score(self, photos: Sequence[Photo], scenario: Scenario) -> Scores:
        if not self.lives:
            raise KeyboardInterrupt
        self.lives -= 1
        self.asked += [photo.sha256 for photo in photos]
        numbers = [int(photo.sha256) for photo in photos]
        p = np.array(numbers) / 10
        return Scores(YES_NO, np.stack([p, 1 - p], axis=1), tuple(about(number) for number in numbers))


def test_a_killed_source_goes_on_where_it_was_with_its_evidence(tmp_path: Path) -> None:
    store, first = EmbeddingStore(tmp_path), Pointing(lives=2)
    with pytest.raises(KeyboardInterrupt):
        labeling.score(first, PHOTOS, CAT, store)
    question = labeling.question_hash(CAT)
    assert store.evidence("pointing", question, ["0", "3", "4"]).keys() == {"0", "3"}
    assert store.scores("pointing", question, ["0", "3", "4"]).keys() == {"0", "3"}, "in the same shards"

    second = Pointing()
    scores = labeling.score(second, PHOTOS, CAT, store)
    third = labeling.score(asked_nothing := Pointing(), list(reversed(PHOTOS)), CAT, store)

    assert first.asked + second.asked == [photo.sha256 for photo in PHOTOS] and not asked_nothing.asked
    assert scores.evidence == tuple(about(number) for number in range(7))
    assert third.evidence is not None and third.evidence[::-1] == scores.evidence
    assert len(list(tmp_path.rglob("*.parquet"))) == 2, (
        "each writer folded its own shards into one, with their evidence"
    )


def test_a_source_without_evidence_writes_shards_as_before(tmp_path: Path) -> None:
    class Silent(Pointing):
        def score(self, photos: Sequence[Photo], scenario: Scenario) -> Scores:
            return Scores(YES_NO, super().score(photos, scenario).by_phrase)

    store = EmbeddingStore(tmp_path)
    assert labeling.score(Silent(), PHOTOS, CAT, store).evidence is None
    assert labeling.score(Silent(), PHOTOS, CAT, store).evidence is None, "from the store, too"
    assert pq.read_schema(next(tmp_path.rglob("*.parquet"))).names == ["sha256", "scores"]


def test_photos_scored_before_there_was_evidence_have_none(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    with store.scores_writer("pointing", labeling.question_hash(CAT), {"phrases": YES_NO.to_json()}) as writer:
        writer.add(["0", "1"], np.full((2, 2), 0.5))
        writer.add(["2", "3"], np.full((2, 2), 0.5), to_arrow([about(2), about(3)]))

    scores = labeling.score(Pointing(), PHOTOS, CAT, store)

    assert scores.evidence is not None
    assert scores.evidence[:4] == (VisualEvidence(), VisualEvidence(), about(2), about(3))


def test_evidence_about_other_photos_is_refused() -> None:
    with pytest.raises(PluginError, match="evidence about 1 photos, expected 2"):
        Scores(YES_NO, np.full((2, 2), 0.5), (about(1),)).checked(2, "mine")


def test_the_file_of_a_run_holds_what_was_written(tmp_path: Path) -> None:
    run, evidence = RunFolder(tmp_path), [about(number) for number in range(7)]
    assert read_evidence(run) == {}

    write_evidence(run, [photo.sha256 for photo in PHOTOS], evidence)

    assert read_evidence(run) == dict(zip("0123456", evidence, strict=True))
    table = pq.read_table(run.file(EVIDENCE))
    assert table.column_names == ["sha256", "boxes", "mask"]
    assert table["boxes"][3].as_py()[1] == {
        "phrase": "cat",
        "score": 0.8,
        "x": 0.1,
        "y": 0.2,
        "width": 0.3,
        "height": 0.4,
    }


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    pq.write_table(pa.table({"sha256": ["a"], "boxes": [[{"phrase": "cat"}]], "mask": [None]}), run.file(EVIDENCE))
    with pytest.raises(RunError, match=r"evidence\.parquet: damaged"):
        read_evidence(run)
    run.file(EVIDENCE).write_bytes(b"PAR1")
    with pytest.raises(RunError, match=r"evidence\.parquet: damaged"):
        read_evidence(run)


@pytest.mark.parametrize("shape", [(100, 200), (64, 64), (300, 40), (7, 5)])
def test_a_mask_is_small_and_keeps_its_share(shape: tuple[int, int]) -> None:
    rows, columns = np.indices(shape)
    pixels = (rows / shape[0] - 0.5) ** 2 + (columns / shape[1] - 0.5) ** 2 < 0.1

    mask = Mask.of_pixels("disc", pixels)

    with Image.open(io.BytesIO(mask.png)) as image:
        assert image.format == "PNG" and image.mode == "L"
        assert image.size == (min(shape[1], MASK_SIDE), min(shape[0], MASK_SIDE))
    assert mask.share == pytest.approx(pixels.mean(), abs=1e-5)
    assert mask.cells().mean() / 255 == pytest.approx(mask.share, abs=0.01)
    assert mask.cells()[0, 0] == 0 and mask.cells()[mask.cells().shape[0] // 2, mask.cells().shape[1] // 2] == 255
