"""Search by words, by photos and by both: what is added, what is taken away, and what comes first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clip_factory import api
from clip_factory.encoders import Encoder, load_encoder
from clip_factory.errors import ImagesError, ScenarioError
from clip_factory.scenario import Teacher
from clip_factory.zeroshot.search import Query, search
from support.axis_encoder import AxisEncoder, unit

WORDS = ("red", "green", "blue")


@pytest.fixture
def encoder() -> AxisEncoder:
    return AxisEncoder(*WORDS)


@pytest.fixture
def colors(tmp_path: Path) -> dict[str, Path]:
    made = {}
    for name, color in {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}.items():
        made[name] = tmp_path / f"{name}.png"
        Image.new("RGB", (40, 40), color).save(made[name])
    return made


VECTORS = unit(np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0]]))
PATHS = ["red", "red and green", "red and blue", "green", "blue"]


def found(query: Query, encoder: AxisEncoder, most: int = 9) -> list[str]:
    return [match.path for match in search(VECTORS, PATHS, query, encoder, most)]


def test_the_nearest_come_first_with_their_cosines(encoder: AxisEncoder) -> None:
    matches = search(VECTORS, PATHS, Query(("red",)), encoder, 9)

    assert [match.path for match in matches] == ["red", "red and green", "red and blue", "green", "blue"]
    assert [match.score for match in matches] == pytest.approx([1, 2**-0.5, 2**-0.5, 0, 0])


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_photos_come_than_are_asked_for(encoder: AxisEncoder, most: int) -> None:
    assert found(Query(("red",)), encoder, most) == PATHS[:most]


def test_several_words_are_added_up(encoder: AxisEncoder) -> None:
    assert found(Query(("red", "blue")), encoder)[0] == "red and blue"
    assert Query(("red", "blue")).vector(encoder) == pytest.approx(np.array([0.5**0.5, 0, 0.5**0.5, 0]))


def test_what_is_taken_away_puts_its_own_kind_last(encoder: AxisEncoder) -> None:
    assert found(Query(("red",)), encoder)[1] == "red and green"
    without = found(Query(("red",), minus=("green",)), encoder)
    assert without.index("red and green") > without.index("red and blue") and without[-1] == "green"


def test_several_things_are_taken_away_each_at_its_full_weight(encoder: AxisEncoder) -> None:
    query = Query(("red",), minus=("green", "blue"))

    assert query.vector(encoder) == pytest.approx(np.array([1, -1, -1, 0]) / 3**0.5)


def test_a_photo_is_looked_for_by_what_it_shows(encoder: AxisEncoder, colors: dict[str, Path]) -> None:
    assert found(Query(like=(colors["blue"],)), encoder)[:2] == ["blue", "red and blue"]


def test_words_and_photos_are_added_up_and_words_taken_off(encoder: AxisEncoder, colors: dict[str, Path]) -> None:
    assert found(Query(("red",), like=(colors["green"],)), encoder)[0] == "red and green"
    assert found(Query(like=(colors["red"], colors["green"]), minus=("green",)), encoder)[0] == "red"


def test_the_vector_has_length_one(encoder: AxisEncoder, colors: dict[str, Path]) -> None:
    vector = Query(("red", "green"), like=(colors["blue"],), minus=("blue", "green")).vector(encoder)

    assert np.linalg.norm(vector) == pytest.approx(1) and vector.dtype == np.float32


def test_what_is_looked_for_is_said_as_one_would(encoder: AxisEncoder) -> None:
    assert Query(("red", "blue"), (Path("a/b.jpg"),), ("sky", "sea")).says == "red + blue + like b.jpg - sky - sea"


def test_nothing_looked_for_is_refused_and_so_is_all_of_it_taken_away(encoder: AxisEncoder) -> None:
    with pytest.raises(ScenarioError, match="nothing is looked for"):
        Query(minus=("red",)).vector(encoder)
    with pytest.raises(ScenarioError, match="taken away is all that is looked for"):
        Query(("red",), minus=("red",)).vector(encoder)


@pytest.mark.parametrize("content", [None, b"no photo"])
def test_a_photo_that_cannot_be_read_is_named(encoder: AxisEncoder, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "query.jpg"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ImagesError, match=r"(?s)query\.jpg.*--like photo\.jpg"):
        Query(like=(file,)).vector(encoder)


# With the offline encoder, where words have a meaning


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of the demo, some of them twice or damaged."""
    from clip_factory_demo.render import render_set

    folder = tmp_path_factory.mktemp("demo")
    render_set(folder, 16)
    return folder / "images"


@pytest.fixture(scope="module")
def offline() -> Encoder:
    return load_encoder(Teacher(model="offline"))


@pytest.fixture
def shared(offline: Encoder, monkeypatch: pytest.MonkeyPatch) -> Encoder:
    monkeypatch.setattr("clip_factory.zeroshot.embedded_folder.load_encoder", lambda teacher: offline)
    return offline


def test_a_photo_of_the_folder_is_most_like_itself_and_a_copy_is_not_listed(shared: Encoder, rendered: Path) -> None:
    photo = rendered / "img_0004.jpg"
    matches, folder = api.search(rendered, like=photo, most=99, encoder="offline")

    assert matches[0].path == photo.name and matches[0].score == pytest.approx(1, abs=2e-3)
    assert len(matches) == len(set(folder.sha256)) < len(folder.paths), "the demo has copies"
    listed = [folder.sha256[folder.paths.index(match.path)] for match in matches]
    assert len(listed) == len(set(listed))


def test_words_find_by_cosines_of_the_stored_vectors(shared: Encoder, rendered: Path) -> None:
    matches, folder = api.search(rendered, ["a red ball", "snow"], minus="night", most=5, encoder="offline")
    texts = shared.embed_texts(["a red ball", "snow", "night"])
    wanted = texts[0] + texts[1] - texts[2]
    cosines = folder.vectors @ (wanted / np.linalg.norm(wanted))
    by_path = dict(zip(folder.paths, cosines, strict=True))
    by_content = sorted(dict(zip(folder.sha256, cosines, strict=True)).values(), reverse=True)

    assert [match.score for match in matches] == pytest.approx(by_content[:5], abs=1e-5)
    assert all(by_path[match.path] == pytest.approx(match.score, abs=1e-5) for match in matches)


def test_a_search_for_nothing_reads_no_photo(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="nothing is looked for"):
        api.search(tmp_path / "missing", minus="night")
