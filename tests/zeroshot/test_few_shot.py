"""Few-shot probes against scikit-learn: what is fitted, on which side near-duplicates lie, and what words are worth."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from clip_factory.errors import GoldError
from clip_factory.zeroshot import few_shot as shots
from clip_factory.zeroshot.accuracy_plots import few_shot_plot
from clip_factory.zeroshot.few_shot import FewShot, few_shot
from support.axis_encoder import unit


def photos(count: int = 80, dim: int = 6, apart: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Two classes by turns, and which photo is of which."""
    truth = np.arange(count) % 2
    vectors = np.random.default_rng(0).normal(size=(count, dim)) + apart * np.eye(dim)[truth] + 5
    return unit(vectors), truth


class Probe(LogisticRegression):
    """Notes what it is fitted and measured on."""

    fits: list[tuple[np.ndarray, np.ndarray]]
    scores: list[tuple[np.ndarray, np.ndarray]]

    def fit(self, x: np.ndarray, y: np.ndarray) -> Probe:
        self.fits.append((x, y))
        return super().fit(x, y)

    def score(self, x: np.ndarray, y: np.ndarray) -> float:
        self.scores.append((x, y))
        return super().score(x, y)


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> type[Probe]:
    Probe.fits, Probe.scores = [], []
    monkeypatch.setattr(shots, "LogisticRegression", Probe)
    return Probe


def marked(vectors: np.ndarray) -> np.ndarray:
    """With the row's number at a place where the noted rows can be told by."""
    vectors = vectors.copy()
    vectors[:, -1] = np.linspace(0.1, 0.3, len(vectors))
    return vectors


def rows_of(noted: np.ndarray, vectors: np.ndarray) -> list[int]:
    places = vectors[:, -1] - vectors[:, -1].mean()
    scale = np.sqrt(((vectors - vectors.mean(axis=0)) ** 2).sum(axis=1).mean())
    return [int(np.abs(places / scale - row[-1]).argmin()) for row in noted]


def test_near_duplicates_never_lie_on_both_sides_of_the_split(probe: type[Probe]) -> None:
    vectors, truth = photos()
    vectors = marked(vectors)
    groups = np.arange(80) // 8
    few_shot(vectors, truth, groups, truth)

    assert len(probe.fits) == len(probe.scores) == 5 * shots.DRAWS
    for (fitted, _), (measured, _) in zip(probe.fits, probe.scores, strict=True):
        assert not {*groups[rows_of(fitted, vectors)]} & {*groups[rows_of(measured, vectors)]}


def test_each_draw_has_k_different_photos_of_each_class(probe: type[Probe]) -> None:
    vectors, truth = photos()
    vectors = marked(vectors)
    result = few_shot(vectors, truth, np.arange(80), truth)

    for place, (fitted, labels) in enumerate(probe.fits):
        k = result.shots[place // shots.DRAWS]
        assert np.bincount(labels).tolist() == [k, k]
        rows = rows_of(fitted, vectors)
        assert len(set(rows)) == 2 * k
        assert truth[rows].tolist() == labels.tolist()


def test_draws_differ_and_all_are_measured_on_the_same_photos(probe: type[Probe]) -> None:
    vectors, truth = photos()
    vectors = marked(vectors)
    few_shot(vectors, truth, np.arange(80), truth)

    assert len({tuple(rows_of(x, vectors)) for x, _ in probe.fits}) == len(probe.fits)
    assert len({tuple(rows_of(x, vectors)) for x, _ in probe.scores}) == 1


def test_the_accuracy_is_that_of_scikit_learn_on_centered_vectors() -> None:
    vectors, truth = photos()
    groups = np.arange(80) // 2
    result = few_shot(vectors, truth, groups, truth)
    pool, held = next(StratifiedGroupKFold(2, shuffle=True, random_state=0).split(vectors, truth, groups))
    centered = (vectors - vectors.mean(axis=0)).astype(float)
    centered /= np.sqrt((centered**2).sum(axis=1).mean())
    random = np.random.default_rng([4, 3])
    drawn = np.concatenate([random.choice(pool[truth[pool] == k], 4, replace=False) for k in (0, 1)])
    wanted = LogisticRegression(C=10.0, max_iter=1000).fit(centered[drawn], truth[drawn])

    assert result.accuracy[2, 3] == pytest.approx(wanted.score(centered[held], truth[held]))
    assert result.photos == len(held)


def test_a_common_direction_of_all_photos_changes_nothing() -> None:
    """Vectors of CLIP lie in a narrow cone: what all share must not weigh on the penalty."""
    vectors, truth = photos()
    moved = few_shot(vectors + 3, truth, np.arange(80), truth)

    assert moved.accuracy == pytest.approx(few_shot(vectors, truth, np.arange(80), truth).accuracy)


def test_the_words_are_measured_on_the_photos_that_are_held_out() -> None:
    vectors, truth = photos()
    groups = np.arange(80)
    _, held = next(StratifiedGroupKFold(2, shuffle=True, random_state=0).split(vectors, truth, groups))
    answers = truth.copy()
    answers[held[:10]] = -1

    assert few_shot(vectors, truth, groups, answers).zero_shot == pytest.approx(1 - 10 / len(held))


def test_more_labels_are_tried_only_as_far_as_the_rarest_class_goes() -> None:
    vectors, truth = photos()
    rare = np.concatenate([np.flatnonzero(truth == 0), np.flatnonzero(truth == 1)[:10]])
    result = few_shot(vectors[rare], truth[rare], rare, truth[rare])

    assert result.shots == (1, 2, 4), "five of ten are drawn from"


def test_more_labels_reach_more_where_classes_can_be_learned() -> None:
    vectors, truth = photos(200, apart=3.0)
    result = few_shot(vectors, truth, np.arange(200), truth)

    assert result.mean[-1] > max(result.mean[0], 0.9)


def test_mean_and_spread_are_over_draws() -> None:
    made = FewShot((1, 2), np.array([[0.2, 0.4], [0.5, 0.9]]), 0.5, 10)

    assert made.mean == pytest.approx([0.3, 0.7])
    assert made.spread == pytest.approx(np.std([[0.2, 0.4], [0.5, 0.9]], axis=1, ddof=1))


@pytest.mark.parametrize(
    ("zero_shot", "worth"),
    [(0.6, 2.0), (0.7, 2 * 2**0.5), (0.8, 4.0), (0.81, None)],
)
def test_words_are_worth_as_many_labels_as_reach_the_same(zero_shot: float, worth: float | None) -> None:
    made = FewShot((1, 2, 4), np.array([[0.4], [0.6], [0.8]]), zero_shot, 10)

    assert made.worth == (worth if worth is None else pytest.approx(worth))


def test_a_curve_that_falls_by_chance_does_not_lower_what_words_are_worth() -> None:
    made = FewShot((1, 2, 4), np.array([[0.4], [0.8], [0.7]]), 0.75, 10)

    assert made.worth == pytest.approx(2 ** (0.35 / 0.4))


def test_one_class_or_copies_of_one_photo_are_refused_with_a_way_out() -> None:
    vectors, truth = photos()
    copies = np.where(truth == 1, 1000, np.arange(80))
    for kinds, groups in ((np.zeros(80, int), np.arange(80)), (truth, copies)):
        with pytest.raises(GoldError, match=r"(?s)two classes with two different photos each.*leave out --probe"):
            few_shot(vectors, kinds, groups, kinds)


@pytest.mark.parametrize(("zero_shot", "says"), [(0.6, "about 2 labeled photos"), (0.9, "more than 4 labeled photos")])
def test_the_curve_says_what_the_words_are_worth(zero_shot: float, says: str) -> None:
    plot = few_shot_plot(FewShot((1, 2, 4), np.array([[0.4, 0.4], [0.6, 0.6], [0.8, 0.8]]), zero_shot, 10))

    assert says in plot.says and "<svg" in str(plot.svg)
    assert "over 2 draws" in plot.says and "On 10 photos" in plot.says
