"""Gaussian classes of one covariance: scikit-learn's linear discriminant where labels are hard, refined elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from clip_factory.label_sources import gaussian_classes
from clip_factory.label_sources.gaussian_classes import (
    COMPONENTS,
    ROUNDS,
    SHRINKAGE,
    fit,
    principal_components,
    sampled,
    softmax,
)


def groups(count: int, kinds: int, dim: int = 12, apart: float = 3.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points of several kinds in a shared, stretched cloud, and the kind of each."""
    random = np.random.default_rng(seed)
    kind = random.integers(0, kinds, count)
    stretch = random.normal(0, 1, (dim, dim))
    means = apart * random.normal(0, 1, (kinds, dim))
    return means[kind] + random.normal(0, 1, (count, dim)) @ stretch, kind


def test_with_sure_words_the_classes_are_scikit_learns_linear_discriminant() -> None:
    points, kind = groups(600, 3)
    sure = np.where(np.eye(3)[kind] == 1, 0.0, -1e9)
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE).fit(points, kind)
    priors = np.log(np.bincount(kind) / len(kind))

    # scikit-learn's scores have the classes' shares in them
    expected = oracle.decision_function(points) - priors
    scores = fit(points, sure).log_likelihoods(points)
    assert scores - scores.mean(axis=1, keepdims=True) == pytest.approx(
        expected - expected.mean(axis=1, keepdims=True), abs=1e-6
    )


def test_words_that_err_on_a_third_are_corrected_by_the_groups() -> None:
    points, kind = groups(900, 3, apart=4.0)
    random = np.random.default_rng(1)
    heard = np.where(random.random(900) < 1 / 3, random.integers(0, 3, 900), kind)
    prior = log_softmax(2.0 * np.eye(3)[heard], axis=1)
    answers = softmax(prior + fit(points, prior).log_likelihoods(points)).argmax(axis=1)

    assert (prior.argmax(axis=1) == kind).mean() < 0.85
    assert (answers == kind).mean() > 0.97


def test_rounds_go_on_from_what_the_round_before_has_made(monkeypatch: pytest.MonkeyPatch) -> None:
    points, kind = groups(300, 2, apart=1.0)
    prior = log_softmax(np.random.default_rng(0).normal(0, 1, (300, 2)) + np.eye(2)[kind], axis=1)
    ten = fit(points, prior).weights
    monkeypatch.setattr(gaussian_classes, "ROUNDS", 1)
    one = fit(points, prior)

    assert ROUNDS == 10 and not np.allclose(one.weights, ten)
    shares = softmax(prior)
    means = shares.T @ points / shares.sum(axis=0)[:, None]
    within = np.cov(points.T, bias=True) - sum(
        share * np.outer(mean - points.mean(0), mean - points.mean(0))
        for share, mean in zip(shares.mean(axis=0), means, strict=True)
    )
    shrunk = (1 - SHRINKAGE) * within + SHRINKAGE * np.trace(within) / 12 * np.eye(12)
    assert one.weights == pytest.approx(np.linalg.solve(shrunk, means.T), rel=1e-6)


def test_components_are_scikit_learns() -> None:
    vectors = np.random.default_rng(0).normal(0, 1, (300, 100)).astype(np.float32) * np.linspace(1, 3, 100)
    points = principal_components(vectors.astype(np.float32))
    oracle = PCA(COMPONENTS, svd_solver="full").fit_transform(vectors.astype(np.float32).astype(np.float64))

    assert points.shape == (300, COMPONENTS)
    assert np.abs(points) == pytest.approx(np.abs(oracle), abs=1e-4)


def test_a_class_that_no_photo_is_taken_for_does_no_harm() -> None:
    points, kind = groups(200, 2)
    prior = np.concatenate([log_softmax(5.0 * np.eye(2)[kind], axis=1), np.full((200, 1), -1e4)], axis=1)
    scores = fit(points, prior).log_likelihoods(points)

    assert np.isfinite(scores).all()
    assert ((prior + scores).argmax(axis=1) == kind).mean() > 0.95


def test_of_many_photos_a_sample_is_fitted_to_and_all_are_projected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian_classes, "AT_ONCE", 100)
    vectors = np.random.default_rng(0).normal(0, 1, (250, 8)).astype(np.float32)
    rows = sampled(250)
    points = principal_components(vectors)

    assert len(rows) == len(set(rows.tolist())) == 100 and (np.diff(rows) > 0).all()
    assert (sampled(250) == rows).all(), "always the same sample"
    oracle = PCA(8, svd_solver="full").fit(vectors[rows].astype(np.float64))
    assert np.abs(points) == pytest.approx(np.abs(oracle.transform(vectors)), abs=1e-5)


def test_few_photos_are_all_fitted_to() -> None:
    assert sampled(7).tolist() == list(range(7))
