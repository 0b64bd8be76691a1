"""Several label sources together: whose word counts how much, who is asked about what, and that none is asked twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import expit
from scipy.special import logit as exact_logit

from clip_factory import progress
from clip_factory.errors import LabelsError, ScenarioError
from clip_factory.images.photo import Photo
from clip_factory.label_sources import labeling
from clip_factory.label_sources.mixed import Mixed, load_mixed
from clip_factory.label_sources.probabilities import MIN_P
from clip_factory.label_sources.source import LOADERS, Scores, find_label_source
from clip_factory.label_sources.visual_evidence import Box, Mask, VisualEvidence
from clip_factory.run_folder import sha256_file
from clip_factory.scenario import Labeling, Scenario, Teacher
from clip_factory.store import EmbeddingStore

COUNT = 8
PHOTOS = [Photo(str(i), Path(f"{i}.jpg")) for i in range(COUNT)]
ANSWERS = {
    "one": np.array([0.01, 0.21, 0.3, 0.5, 0.79, 0.81, 0.97, 0.6]),
    "two": np.array([0.9, 0.1, 0.95, 0.2, 0.9, 0.1, 0.1, 0.4]),
    "three": np.array([0.5, 0.3, 0.95, 0.6, 0.02, 0.7, 0.4, 0.9]),
}


class Counting:
    """A label source that counts what it is asked."""

    batch_size = 3

    def __init__(self, name: str, fails_at: str = "") -> None:
        self.key, self.about = name, {"name": f"the {name}", "license": f"{name}-1.0"}
        self.asked: list[str] = []
        self.fails_at = fails_at
        self.shows: Callable[[int], VisualEvidence] | None = None

    def score(self, photos: Sequence[Photo], scenario: Scenario) -> Scores:
        names = [photo.sha256 for photo in photos]
        if self.fails_at in names:
            raise OSError("pulled the plug")
        self.asked += names
        rows = [int(name) for name in names]
        scores = Scores.of_probabilities(ANSWERS[self.key][rows])
        return scores if self.shows is None else replace(scores, evidence=tuple(map(self.shows, rows)))


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> dict[str, Counting]:
    """The label sources one, two and three."""
    counting = {name: Counting(name) for name in ANSWERS}

    def loader(name: str) -> Callable[..., Counting]:
        return lambda scenario, encoder, store: counting[name]

    for name in ANSWERS:
        monkeypatch.setitem(LOADERS.own, name, loader(name))  # type: ignore[index]
    return counting


def scenario(*parts: dict[str, object], **labels: object) -> Scenario:
    tree = {"name": "x", "positive": ["x"], "labels": {"sources": list(parts), **labels}}
    return Scenario.model_validate(tree)


def mixed(asked: Scenario, store: Path) -> Mixed:
    return load_mixed(asked, None, EmbeddingStore(store))  # type: ignore[arg-type]


def probabilities(asked: Scenario, store: Path, photos: Sequence[Photo] = PHOTOS) -> np.ndarray:
    return mixed(asked, store).score(photos, asked).p


def mean(*weighted: tuple[str, float]) -> np.ndarray:
    """The oracle: SciPy's functions, on single precision as scores are stored."""
    logits = [weight * exact_logit(ANSWERS[name]) for name, weight in weighted]
    return np.asarray(expit(sum(logits) / sum(weight for _, weight in weighted)))


@pytest.mark.usefixtures("sources")
def test_the_mean_is_that_of_the_log_odds_by_weight(tmp_path: Path) -> None:
    asked = scenario({"source": "one"}, {"source": "two", "weight": 2}, {"source": "three", "weight": 0.5})

    assert probabilities(asked, tmp_path) == pytest.approx(mean(("one", 1), ("two", 2), ("three", 0.5)), abs=1e-6)


def test_a_source_that_is_far_too_sure_can_be_outvoted(
    sources: dict[str, Counting], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ANSWERS, "one", np.full(COUNT, 1e-12))
    asked = scenario({"source": "one"}, {"source": "two", "weight": 9})

    expected = expit((exact_logit(MIN_P) + 9 * exact_logit(ANSWERS["two"])) / 10)
    assert probabilities(asked, tmp_path) == pytest.approx(expected, abs=1e-6)


def test_a_cascade_asks_the_next_only_about_photos_in_doubt(sources: dict[str, Counting], tmp_path: Path) -> None:
    asked = scenario({"source": "one"}, {"source": "two", "weight": 3}, combine="cascade", doubt=[0.2, 0.8])
    p = probabilities(asked, tmp_path)

    assert sources["one"].asked == [str(i) for i in range(COUNT)]
    assert sources["two"].asked == ["1", "2", "3", "4", "7"]
    doubt = np.isin(np.arange(COUNT), [1, 2, 3, 4, 7])
    assert p == pytest.approx(np.where(doubt, mean(("one", 1), ("two", 3)), ANSWERS["one"]), abs=1e-6)


def test_the_third_is_asked_where_the_mean_of_the_first_two_is_in_doubt(
    sources: dict[str, Counting], tmp_path: Path
) -> None:
    parts = [{"source": name} for name in ANSWERS]
    p = probabilities(scenario(*parts, combine="cascade", doubt=[0.3, 0.7]), tmp_path)

    two = mean(("one", 1), ("two", 1))
    assert sources["two"].asked == ["2", "3", "7"]
    still = [i for i in (2, 3, 7) if 0.3 <= two[i] <= 0.7]
    assert sources["three"].asked == [str(i) for i in still] == ["3", "7"]
    expected = ANSWERS["one"].copy()
    expected[2] = two[2]
    expected[still] = mean(*((name, 1) for name in ANSWERS))[still]
    assert p == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("combine", ["mean", "cascade"])
@pytest.mark.usefixtures("sources")
def test_no_photos_score_depends_on_the_others(combine: str, tmp_path: Path) -> None:
    asked = scenario(*({"source": name} for name in ANSWERS), combine=combine)
    together = mixed(asked, tmp_path / "together").score(PHOTOS, asked).by_phrase
    alone = [mixed(asked, tmp_path / p.sha256).score([p], asked).by_phrase for p in PHOTOS]

    assert np.concatenate(alone).tobytes() == together.tobytes()


def test_a_source_is_asked_once_alone_or_in_any_mixture(sources: dict[str, Counting], tmp_path: Path) -> None:
    alone = scenario({"source": "one"}, {"source": "two"}).model_copy(update={"labels": Labeling(source="two")})
    labeling.score(sources["two"], PHOTOS[:5], alone, EmbeddingStore(tmp_path))
    assert sources["two"].asked == ["0", "1", "2", "3", "4"]

    probabilities(scenario({"source": "one"}, {"source": "two"}), tmp_path)
    assert sources["two"].asked == [str(i) for i in range(COUNT)], "only about those that were not asked before"

    probabilities(scenario({"source": "two", "weight": 7}, {"source": "one"}, combine="cascade"), tmp_path)
    labeling.score(
        sources["one"], PHOTOS, alone.model_copy(update={"labels": Labeling(source="one")}), EmbeddingStore(tmp_path)
    )
    assert [len(source.asked) for source in sources.values()] == [COUNT, COUNT, 0]


def test_what_was_answered_before_a_failure_is_kept(sources: dict[str, Counting], tmp_path: Path) -> None:
    asked = scenario({"source": "one"}, {"source": "two"})
    sources["two"].fails_at = "4"
    with pytest.raises(OSError, match="pulled the plug"):
        probabilities(asked, tmp_path)
    sources["two"].fails_at = ""
    probabilities(asked, tmp_path)

    assert [sources[name].asked for name in ("one", "two")] == [[str(i) for i in range(COUNT)]] * 2


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ({}, "asked: one about 8 photos, two about 8"),
        ({"combine": "cascade"}, "asked: one about 8 photos, two about 5 in doubt"),
    ],
)
@pytest.mark.usefixtures("sources")
def test_who_was_asked_about_how_many_photos_is_printed(
    labels: dict[str, object], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = scenario({"source": "one"}, {"source": "two"}, **labels)
    source = mixed(asked, tmp_path)
    for _ in range(2):  # also where the store answers
        source.score(PHOTOS, asked)
        assert sentence in capsys.readouterr().err.splitlines()
    assert source.about["asked"] == [8, 5 if labels else 8]


def test_what_the_sources_show_is_shown_together(sources: dict[str, Counting], tmp_path: Path) -> None:
    def box(phrase: str, row: int) -> Box:
        return Box(phrase, row / 10, 0.1, 0.2, 0.3, 0.4)

    masks = [Mask(name, 0.5, name.encode()) for name in ("first", "second")]
    sources["one"].shows = lambda row: VisualEvidence((box("low", row),), masks[0] if row != 3 else None)
    sources["two"].shows = lambda row: VisualEvidence((box("high", row + 1),), masks[1])
    asked = scenario({"source": "one"}, {"source": "two"}, {"source": "three"}, combine="cascade")
    scores = mixed(asked, tmp_path).score(PHOTOS, asked)

    assert sources["two"].asked == ["1", "2", "3", "4", "7"]
    assert scores.evidence is not None and len(scores.evidence) == COUNT
    assert scores.evidence[0] == VisualEvidence((box("low", 0),), masks[0]), "the second was not asked"
    assert scores.evidence[3] == VisualEvidence((box("high", 4), box("low", 3)), masks[1])
    assert scores.evidence[7] == VisualEvidence((box("high", 8), box("low", 7)), masks[0])
    assert mixed(asked, tmp_path).score(PHOTOS, asked).evidence == scores.evidence, "the store has it"


@pytest.mark.usefixtures("sources")
def test_a_mixture_of_sources_that_show_nothing_shows_nothing(tmp_path: Path) -> None:
    asked = scenario({"source": "one"}, {"source": "two"})

    assert mixed(asked, tmp_path).score(PHOTOS, asked).evidence is None


@pytest.mark.usefixtures("sources")
def test_no_photos_are_refused_as_for_one_source(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="there are no photos to label"):
        probabilities(scenario({"source": "one"}, {"source": "two"}, combine="cascade"), tmp_path, [])


@pytest.mark.usefixtures("sources")
def test_every_source_is_named_with_its_license(tmp_path: Path) -> None:
    about = mixed(scenario({"source": "one"}, {"source": "two"}), tmp_path).about

    assert about["name"] == "the one + the two"
    assert about["license"] == "the one: one-1.0; the two: two-1.0"


@pytest.mark.usefixtures("sources")
def test_the_key_says_all_that_changes_the_scores(tmp_path: Path) -> None:
    one, two, half = {"source": "one"}, {"source": "two"}, {"source": "two", "weight": 0.5}
    several = [
        scenario(one, two),
        scenario(two, one),
        scenario(one, half),
        scenario(one, two, combine="cascade"),
        scenario(one, two, combine="cascade", doubt=[0.1, 0.9]),
    ]
    assert len({mixed(asked, tmp_path).key for asked in several}) == len(several)


@pytest.mark.usefixtures("sources")
def test_an_unknown_source_among_several_is_refused_by_its_place() -> None:
    with pytest.raises(ScenarioError) as refused:
        find_label_source(scenario({"source": "one"}, {"source": "oracle"}))
    assert str(refused.value).startswith("labels.sources.1: oracle: no such label source\n  known: zero-shot, det")
    assert "mixed" not in str(refused.value)


@pytest.mark.usefixtures("sources")
def test_the_stage_labels_with_a_mixture(
    tiny_clip: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zero-shot among them: its answers are those that it gives alone."""
    files = sorted((shapes / "photos").glob("*.png"))[:COUNT]
    photos = sorted(Photo(sha256_file(path), path) for path in files)
    names = [photo.sha256 for photo in photos]
    images = pa.table({"sha256": names, "path": names, "group": pa.array(range(COUNT))})

    class Other(Counting):
        def score(self, photos: Sequence[Photo], scenario: Scenario) -> Scores:
            self.asked += [photo.sha256 for photo in photos]
            return Scores.of_probabilities(ANSWERS["two"][[names.index(photo.sha256) for photo in photos]])

    monkeypatch.setitem(LOADERS.own, "two", lambda scenario, encoder, store: Other("two"))  # type: ignore[index]
    teacher = Teacher(model=f"local-dir:{tiny_clip}")
    tree = {"name": "disc", "positive": ["disc"], "negative": ["bar"], "teacher": teacher}
    store = EmbeddingStore(tmp_path)

    def labels(section: dict[str, object]) -> labeling.Labels:
        return labeling.label(Scenario.model_validate({**tree, "labels": section}), photos, images, store, {}).labels

    alone = labels({"refine": "none"})
    both = labels({"refine": "none", "sources": [{"source": "zero-shot"}, {"source": "two", "weight": 3}]})

    expected = expit((exact_logit(alone.p_teacher.astype(float)) + 3 * exact_logit(ANSWERS["two"])) / 4)
    assert both.p_teacher == pytest.approx(expected, abs=1e-6)
    assert both.positive == ("yes",) and both.negative == ("no",)
    assert both.teacher["name"] == f"{alone.teacher['name']} + the two"
    assert both.teacher["key"] == alone.teacher["key"], "the vectors are the encoder's"
    assert [part["license"] for part in both.teacher["parts"]] == [alone.teacher["license"], "two-1.0"]
    auto = labels({"sources": [{"source": "zero-shot"}, {"source": "two"}]})
    assert auto.refinement["says"] == "Zero-shot and two labels stay: groups are sought from 100 photos on."


def test_progress_of_each_source_is_reported(
    sources: dict[str, Counting], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[tuple[int, int]] = []
    monkeypatch.setattr(progress, "_lines", lambda what: lambda *done: reports.append(done))
    asked = scenario({"source": "one"}, {"source": "two"}, combine="cascade")
    probabilities(asked, tmp_path)

    assert reports == [(3, 8), (6, 8), (8, 8), (3, 5), (5, 5)]
