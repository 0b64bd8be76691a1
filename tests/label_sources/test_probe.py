"""The linear probe: fitted as scikit-learn fits, judged by what it was not fitted to, used where that is better."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import sem
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from clip_factory.label_sources.probabilities import sigmoid
from clip_factory.label_sources.probe import Probe, _compare, _folds, features
from clip_factory.label_sources.refinement import PseudoLabels, Refined


def flowers(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[bool]]:
    """Unit vectors of two kinds that the words cannot tell apart, the zero-shot log-odds, and the truth."""
    random = np.random.default_rng(seed)
    truth = random.random(n) < 0.5
    vectors = random.normal(0, 0.4, (n, 12)).astype(np.float32)
    vectors[:, 0] += np.where(truth, 1, -1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, random.normal(0, 2, n), truth.tolist()


def refined(count: int, *, test_gold: bool = False, invert: bool = False) -> tuple[np.ndarray, Refined, list[bool]]:
    """A probe from `count` labels in train, and maybe (right or inverted) labels of all test images."""
    vectors, logits, truth = flowers(300)
    gold = np.full(300, np.nan)
    gold[:count] = truth[:count]
    if test_gold:
        gold[250:] = np.array(truth[250:]) ^ invert
    result = probe_of(vectors, logits, gold, splits=np.array(["train"] * 200 + ["val"] * 50 + ["test"] * 50))
    return result.p, result, truth


def probe_of(vectors: np.ndarray, logits: np.ndarray, gold: np.ndarray, **other: np.ndarray) -> Refined:
    n = len(gold)
    rest = {"groups": np.arange(n), "splits": np.array(["train"] * n), "unbiased": np.ones(n, bool), **other}
    return Probe().refine(PseudoLabels(log_odds=logits, p=sigmoid(logits), vectors=vectors, gold=gold, **rest))


def test_a_probe_replaces_zero_shot_where_labels_show_it_better() -> None:
    p, result, truth = refined(60)

    before, after = result.figures["accuracy"]
    assert result.used and after > before + 0.2
    assert "on 60 labels from people that it was not fitted to" in result.sentence
    assert np.mean((p >= 0.5) == truth) > 0.9


def test_too_few_labels_leave_zero_shot() -> None:
    p, result, _ = refined(19)

    assert not result.used
    assert result.sentence == "Zero-shot: a probe needs 20 labels from people, two of each answer; there are 19."
    assert result.figures["gold"] == 19 and result.figures["accuracy"] is None
    assert p == pytest.approx(sigmoid(flowers(300)[1]))


def test_a_probe_that_is_no_better_by_more_than_chance_is_not_used() -> None:
    vectors, _, truth = flowers(300)
    sure = np.where(truth, 6.0, -6.0)
    result = probe_of(vectors, sure, np.where(np.arange(300) < 80, truth, np.nan))

    assert not result.used and "not better by more than chance" in result.sentence
    assert result.p == pytest.approx(sigmoid(sure))


def test_labels_of_test_photos_teach_the_probe_nothing() -> None:
    plain, right, wrong = refined(60), refined(60, test_gold=True), refined(60, test_gold=True, invert=True)

    assert right[0] == pytest.approx(plain[0])
    assert wrong[0] == pytest.approx(plain[0])
    assert plain[1].to_json() == right[1].to_json() == wrong[1].to_json()


def test_a_labeled_photo_is_measured_by_a_probe_that_was_not_fitted_to_its_label() -> None:
    vectors, logits, _ = flowers(120)
    vectors[1::2], logits[1::2] = vectors[::2], logits[::2]  # pairs of near-duplicates
    coin = np.random.default_rng(5).random(60) < 0.5
    result = probe_of(vectors, logits, np.repeat(coin, 2).astype(float), groups=np.arange(120) // 2)

    assert result.figures["accuracy"][1] < 0.7, "labels of coins cannot be learned, unless a copy gives them away"


def test_a_labeled_photo_gets_its_probability_from_a_probe_that_was_not_fitted_to_it() -> None:
    vectors, logits, truth = flowers(300)
    gold = np.where(np.arange(300) < 60, truth, np.nan)
    plain = probe_of(vectors, logits, gold)
    gold[7] = 1 - gold[7]
    other = probe_of(vectors, logits, gold)

    assert plain.used and other.used
    assert (other.p[7] >= 0.5) == (plain.p[7] >= 0.5), "its own label does not decide it"


def test_a_probe_must_hold_on_photos_that_were_not_picked() -> None:
    vectors, _, truth = flowers(400)
    right = np.where(truth, 2.0, -2.0)
    hard = np.arange(400) < 60  # zero-shot is wrong on these alone, and the doubtful are picked
    logits = np.where(hard, -right, right)
    vectors[~hard, 0] *= -1  # what is learned from them misleads elsewhere
    gold = np.where(np.arange(400) < 80, truth, np.nan)
    result = probe_of(vectors, logits, gold, unbiased=~hard)

    assert probe_of(vectors, logits, gold).used
    assert not result.used and "worse where photos were not picked" in result.sentence
    assert result.p == pytest.approx(sigmoid(logits))


def inputs_by_scikit_learn(vectors: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Up to 64 principal components of mean square length 1, and ten times the standardized log-odds."""
    components = PCA(min(64, vectors.shape[1]), svd_solver="full").fit_transform(vectors.astype(np.float64))
    components /= np.sqrt(np.mean(np.linalg.norm(components, axis=1) ** 2))
    return np.hstack([components, 10 * StandardScaler().fit_transform(logits[:, None])])


def probe_by_scikit_learn(
    vectors: np.ndarray, logits: np.ndarray, gold: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Probabilities of all photos, those of the labeled ones from other folds, and the penalty: in plain loops."""
    rows = np.flatnonzero(~np.isnan(gold))
    x, y, penalties = inputs_by_scikit_learn(vectors, logits), gold[rows], (0.003, 0.03, 0.3, 3.0, 30.0)

    def fitted(train: np.ndarray, penalty: float) -> LogisticRegression:
        return LogisticRegression(C=penalty, solver="newton-cholesky").fit(x[rows[train]], y[train])

    def cost(said: np.ndarray, where: np.ndarray) -> float:
        return log_loss(y[where], np.clip(said[where], 1e-4, 1 - 1e-4), labels=[0, 1])

    folds = list(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(x[rows], y, groups[rows]))
    by_penalty = {c: np.empty(len(rows)) for c in penalties}
    for train, held in folds:
        for c in penalties:
            by_penalty[c][held] = fitted(train, c).predict_proba(x[rows[held]])[:, 1]
    chosen = np.empty(len(rows))
    for train, held in folds:
        chosen[held] = by_penalty[min(penalties, key=lambda c: cost(by_penalty[c], train))][held]
    best = min(penalties, key=lambda c: cost(by_penalty[c], np.arange(len(rows))))
    everywhere = fitted(np.arange(len(rows)), best).predict_proba(x)[:, 1].clip(1e-4, 1 - 1e-4)
    return everywhere, chosen.clip(1e-4, 1 - 1e-4), best


@pytest.mark.parametrize(("count", "seed"), [(60, 0), (120, 1)])
def test_the_probe_is_scikit_learns_and_its_figures_are_too(count: int, seed: int) -> None:
    vectors, logits, truth = flowers(300, seed)
    gold, groups = np.where(np.arange(300) < count, truth, np.nan), np.arange(300) // 2
    result = probe_of(vectors, logits, gold, groups=groups)
    everywhere, held_out, penalty = probe_by_scikit_learn(vectors, logits, gold, groups)
    before, after, right = expit(logits[:count]), held_out, gold[:count]
    gains = [
        log_loss([y], [b], labels=[0, 1]) - log_loss([y], [a], labels=[0, 1])
        for y, b, a in zip(right, before, after, strict=True)
    ]

    assert result.used is True
    assert result.p[:count] == pytest.approx(held_out, abs=1e-5)
    assert result.p[count:] == pytest.approx(everywhere[count:], abs=1e-5)
    assert result.figures == {
        "gold": count,
        "accuracy": (accuracy_score(right, before >= 0.5), accuracy_score(right, after >= 0.5)),
        "log_loss": pytest.approx((log_loss(right, before), log_loss(right, after)), abs=1e-3),
        "margin": pytest.approx(max(0.01, sem(gains)), abs=1e-3),
        "penalty": penalty,
    }
    assert result.sentence == (
        f"A linear probe replaces the zero-shot labels: on {count} labels from people that it was not fitted to, the "
        f"probe is right on {result.figures['accuracy'][1]:.1%}, zero-shot on {result.figures['accuracy'][0]:.1%}."
    )


@pytest.mark.parametrize(("count", "dim"), [(50, 12), (200, 80)])
def test_the_probe_sees_principal_components_and_log_odds(count: int, dim: int) -> None:
    """Components have no sign, so the products of rows are compared; of 80 dimensions the first 64 are kept."""
    random = np.random.default_rng(0)
    vectors = (random.normal(0, 1, (count, dim)) * np.linspace(1, 0.1, dim) + 3).astype(np.float32)
    logits = random.normal(5, 2, count)
    found, wanted = features(vectors, logits), inputs_by_scikit_learn(vectors, logits)

    assert found.shape == wanted.shape == (count, min(dim, 64) + 1)
    assert found @ found.T == pytest.approx(wanted @ wanted.T, rel=1e-6, abs=1e-6)
    assert found.mean(axis=0) == pytest.approx(np.zeros(found.shape[1]), abs=1e-9)


def test_photos_that_are_all_alike_have_features_of_zero() -> None:
    assert features(np.ones((4, 3), np.float32), np.full(4, 2.0)).tolist() == np.zeros((4, 4)).tolist()


def test_probabilities_stay_a_little_off_certainty() -> None:
    """Words that are right but for a shift: the probe could be as sure as it liked."""
    truth = np.arange(400) % 2 == 0
    vectors = np.random.default_rng(0).normal(0, 0.01, (400, 4)).astype(np.float32)
    vectors[:, 0] += np.where(truth, 1, -1)
    gold = np.where(np.arange(400) < 200, truth, np.nan)
    result = probe_of(vectors, np.where(truth, 12.0, 4.0), gold)

    assert result.used
    for part in (result.p[:200], result.p[200:]):
        assert (part.min(), part.max()) == (1e-4, 1 - 1e-4)


@pytest.mark.parametrize(
    ("yes", "no", "folds"), [(10, 10, 5), (2, 18, 2), (18, 2, 2), (4, 30, 4), (10, 9, 0), (1, 30, 0)]
)
def test_twenty_labels_and_two_of_each_answer_are_enough(yes: int, no: int, folds: int) -> None:
    answers = np.repeat([1, 0], [yes, no])

    assert len(_folds(answers, np.arange(yes + no))) == folds
    assert len(_folds(1 - answers, np.arange(yes + no))) == folds


def test_near_duplicates_of_one_answer_are_one_label_of_it() -> None:
    answers = np.repeat([1, 0], [10, 30])

    assert _folds(answers, np.array([0] * 10 + list(range(1, 31)))) == []
    for train, held in _folds(answers, np.array([0] * 5 + [1] * 5 + list(range(2, 32)))):
        assert set(answers[train]) == {0, 1}
        assert len({0, 5} & set(held)) == 1


def compared(source: list[float], probe: list[float], unbiased: int = 0) -> tuple[str, float]:
    """The verdict on yes photos, of which the first so many were not picked; and the margin."""
    answers = np.ones(len(source))
    verdict, comparison = _compare(
        answers, np.array(source), np.array(probe), np.arange(len(source)) < unbiased, penalty=0.3
    )
    assert (comparison.gold, comparison.penalty) == (len(source), 0.3)
    return verdict, comparison.margin


STAYS, WORSE = "not better by more than chance", "worse where photos were not picked"


def test_better_means_both_more_often_right_and_at_less_cost() -> None:
    half = [0.4] * 20 + [0.6] * 20

    assert compared(half, [0.9] * 40)[0] == "used"
    assert compared([0.6] * 40, [0.9] * 40)[0] == STAYS, "surer, and no more often right"
    assert compared([0.499] * 20 + [0.6] * 20, [0.501] * 20 + [0.6] * 20) == (STAYS, 0.01), "right by a hair"
    assert compared([0.4] + [0.6] * 39, [0.9] * 40)[0] == STAYS, "one photo more may be chance"
    assert compared([0.4] * 3 + [0.6] * 37, [0.9] * 40)[0] == "used"


def test_a_half_is_a_yes() -> None:
    _, comparison = _compare(np.ones(20), np.full(20, 0.5), np.full(20, 0.4), np.zeros(20, bool), 1.0)

    assert comparison.accuracy == (1.0, 0.0)


def test_ten_labels_that_were_not_picked_for_doubt_have_a_veto() -> None:
    source, probe = [0.9] * 10 + [0.2] * 40, [0.5] * 10 + [0.9] * 40

    assert compared(source, probe, unbiased=10)[0] == WORSE
    assert compared(source, probe, unbiased=9)[0] == "used"
    assert compared(source, [0.9] * 50, unbiased=10)[0] == "used", "no worse is good enough"
    mixed = [0.95, 0.83] * 5 + [0.9] * 40
    assert compared([0.9] * 10 + [0.2] * 40, mixed, unbiased=10)[0] == "used", "a little worse may be chance"


def test_the_margin_is_a_standard_error_of_the_mean() -> None:
    random = np.random.default_rng(0)
    source, probe = random.uniform(0.2, 0.9, 30), random.uniform(0.2, 0.9, 30)

    assert compared(list(source), list(probe))[1] == pytest.approx(sem(np.log(probe / source)))


def test_why_the_words_stay_is_said() -> None:
    vectors, _, truth = flowers(300)
    result = probe_of(vectors, np.where(truth, 6.0, -6.0), np.where(np.arange(300) < 80, truth, np.nan))

    assert result.used is False
    assert result.sentence == (
        "Zero-shot labels stay (not better by more than chance): on 80 labels from people that it was not fitted to, "
        f"the probe is right on {result.figures['accuracy'][1]:.1%}, zero-shot on 100.0%."
    )
    few = probe_of(vectors, np.zeros(300), np.where(np.arange(300) < 7, truth, np.nan))
    assert few.figures == {"gold": 7, "accuracy": None, "log_loss": None, "margin": None, "penalty": None}
    assert few.used is False
