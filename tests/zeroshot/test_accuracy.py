"""What answers are worth by folders as truth, against scikit-learn: shares, recalls, the matrix, and its picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score, top_k_accuracy_score

from clip_factory.errors import FactoryError, GoldError
from clip_factory.statistics import wilson
from clip_factory.zeroshot.accuracy import Accuracy, measure
from clip_factory.zeroshot.accuracy_plots import draw_confusion
from clip_factory.zeroshot.classification import Classification
from clip_factory.zeroshot.folder_result import ENSEMBLE, template_rows
from support.axis_encoder import AxisEncoder, unit

NAMES = tuple("abcdefg")


def answers(count: int = 300, names: tuple[str, ...] = NAMES, threshold: float = 0.0) -> Classification:
    p = np.random.default_rng(0).dirichlet(np.ones(len(names)), count)
    return Classification(names, p, threshold)


def folders(count: int = 300, names: tuple[str, ...] = NAMES) -> np.ndarray:
    return np.random.default_rng(1).choice(names, count).astype(object)


def truth(of: np.ndarray, names: tuple[str, ...] = NAMES) -> np.ndarray:
    return np.array([names.index(one) for one in of])


def test_the_share_of_right_answers_and_its_interval_are_of_all_photos() -> None:
    result, where = answers(), folders()
    found = measure(result, where)
    wanted = accuracy_score(truth(where), result.answers)

    assert found.top1.figure == pytest.approx(wanted)
    assert found.top1.n == 300
    assert found.top1.interval == pytest.approx(wilson(round(wanted * 300), 300))


def test_the_five_likeliest_are_scikit_learns_top_5() -> None:
    result, where = answers(), folders()

    assert measure(result, where).top5.figure == pytest.approx(
        top_k_accuracy_score(truth(where), result.probabilities, k=5)
    )


@pytest.mark.parametrize(("classes", "known"), [(5, False), (6, True)])
def test_the_five_likeliest_say_nothing_of_five_classes(classes: int, known: bool) -> None:
    names = NAMES[:classes]

    assert (measure(answers(50, names), folders(50, names)).top5 is not None) == known


def test_the_right_class_among_the_five_likeliest_counts_even_where_the_answer_is_unsure() -> None:
    result, where = answers(threshold=0.99), folders()
    found = measure(result, where)

    assert found.top1.figure == 0
    assert found.top5.figure == pytest.approx(top_k_accuracy_score(truth(where), result.probabilities, k=5))


@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_recalls_and_the_matrix_are_scikit_learns(threshold: float) -> None:
    result, where = answers(threshold=threshold), folders()
    found = measure(result, where)
    said = np.where(result.answers < 0, 7, result.answers)
    wanted = recall_score(truth(where), result.answers, average=None, labels=range(7), zero_division=0)
    matrix = confusion_matrix(truth(where), said, labels=range(8))[:7]

    assert [share.figure for share in found.recalls] == pytest.approx(wanted)
    assert found.mean_recall == pytest.approx(wanted.mean())
    assert found.confusion.tolist() == (matrix if threshold else matrix[:, :7]).tolist()
    assert (matrix[:, 7].sum() > 0) == bool(threshold), "the case is there"


def test_mean_recall_counts_a_rare_class_as_much_as_a_common_one() -> None:
    p = np.array([[0.9, 0.1]] * 10)
    found = measure(Classification(("a", "b"), p), np.array(["a"] * 9 + ["b"], object))

    assert found.top1.figure == pytest.approx(0.9) and found.mean_recall == pytest.approx(0.5)


def test_photos_outside_of_the_classes_folders_are_not_measured() -> None:
    result, where = answers(), folders()
    where[::3], where[1::3] = "", "elsewhere"
    found = measure(result, where)

    assert found.rows.tolist() == list(range(2, 300, 3))
    assert found.top1.figure == pytest.approx(accuracy_score(truth(where[2::3]), result.answers[2::3]))


def test_a_class_without_a_photo_has_no_part_in_the_mean_recall() -> None:
    p = np.array([[0.9, 0.05, 0.05], [0.1, 0.0, 0.9]])
    found = measure(Classification(("a", "b", "c"), p), np.array(["a", "c"], object))

    assert [share.n for share in found.recalls] == [1, 0, 1] and found.mean_recall == 1.0


def test_no_photo_in_the_folder_of_a_class_is_an_error_that_names_the_folders() -> None:
    with pytest.raises(GoldError, match=r"(?s)named like a class.*the folders are: x, y"):
        measure(answers(3), np.array(["y", "x", ""], object))
    with pytest.raises(GoldError, match="the folders are: none"):
        measure(answers(2), np.array(["", ""], object))


def test_the_surest_mistakes_are_rows_of_all_photos_with_the_surest_first() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.99, 0.01], [0.6, 0.4]])
    where = np.array(["", "b", "a", "b", "a"], object)
    found = measure(Classification(("a", "b"), p), where)

    assert found.worst(p, 9).tolist() == [3, 1, 2], "not row 0, in no folder, nor row 4, which is right"
    assert found.worst(p, 1).tolist() == [3]


# By template


def test_each_template_is_measured_alone_and_all_of_them_together_come_first() -> None:
    vectors, where = unit(np.eye(4)[[0, 0, 1, 1]] + 0.1), np.array(["cat", "cat", "dog", "dog"], object)

    class Turned(AxisEncoder):
        """Takes one template the wrong way."""

        def embed_texts(self, texts: list[str]) -> np.ndarray:
            turned = {"inside out cat": "dog", "inside out dog": "cat"}
            return super().embed_texts([turned.get(text, text) for text in texts])

    encoder = Turned("cat", "dog", "inside out")
    rows = template_rows(vectors, where, {"cat": ["cat"], "dog": ["dog"]}, ("a {}", "the {}", "inside out {}"), encoder)

    assert [row.template for row in rows] == [ENSEMBLE, "a {}", "the {}", "inside out {}", "{}"]
    assert [row.top1.figure for row in rows] == [1.0, 1.0, 1.0, 0.0, 1.0]
    assert [row.mean_recall for row in rows] == [1.0, 1.0, 1.0, 0.0, 1.0]


def test_one_template_alone_has_no_row_for_all_of_them() -> None:
    encoder = AxisEncoder("cat", "dog")
    vectors, where = unit(np.eye(3)[:2] + 0.1), np.array(["cat", "dog"], object)
    rows = template_rows(vectors, where, {"cat": ["cat"], "dog": ["dog"]}, ("{}",), encoder)

    assert [row.template for row in rows] == ["{}"]


# The picture


@pytest.fixture
def accuracy() -> Accuracy:
    return measure(answers(threshold=0.3), folders())


@pytest.mark.parametrize(("suffix", "start"), [(".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")])
def test_the_matrix_is_drawn_in_the_kind_that_the_name_says(
    accuracy: Accuracy, tmp_path: Path, suffix: str, start: bytes
) -> None:
    path = draw_confusion(accuracy, tmp_path / "new" / f"matrix{suffix}")

    assert path.read_bytes().startswith(start)
    assert [one.name for one in path.parent.iterdir()] == [path.name], "nothing half written is left"


def test_the_matrix_has_a_darker_square_where_more_answers_are(tmp_path: Path) -> None:
    p = np.array([[0.9, 0.1]] * 10)
    found = measure(Classification(("a", "b"), p), np.array(["a", "b"] * 5, object))
    right = Image.open(draw_confusion(found, tmp_path / "all_a.png")).convert("L")
    none = measure(Classification(("a", "b"), np.array([[0.5, 0.5]] * 10), 0.9), np.array(["a", "b"] * 5, object))
    unsure = Image.open(draw_confusion(none, tmp_path / "unsure.png")).convert("L")

    assert unsure.width > right.width, "a column for no answer"
    assert np.asarray(right).min() < 120


def test_a_kind_of_picture_that_is_not_known_is_refused_before_anything_is_written(
    accuracy: Accuracy, tmp_path: Path
) -> None:
    with pytest.raises(FactoryError, match=r"(?s)written as \.gif.*\.png, \.svg, \.pdf"):
        draw_confusion(accuracy, tmp_path / "matrix.gif")
    assert not list(tmp_path.iterdir())
