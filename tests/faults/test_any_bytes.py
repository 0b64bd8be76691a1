"""Whatever bytes a file holds, reading it ends in a value or in words (hypothesis)."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clip_factory.errors import FactoryError
from clip_factory.gold.gold_csv import read_gold
from clip_factory.gold.journal import Journal
from clip_factory.gold.photo_names import PhotoNames
from clip_factory.images.left_out import read_left_out
from clip_factory.images.sources import locate
from clip_factory.images.url_lists import addresses
from clip_factory.runtime import ImageError, read_rgb
from clip_factory.runtime.model_checks import check_metadata
from clip_factory.runtime.onnx_operators import check_operators
from clip_factory.runtime.releases.release_index import Index
from clip_factory.runtime.runtime_errors import ModelError, RegistryError
from clip_factory.runtime.safe_text import is_plain, visible, without_secrets
from clip_factory.scenario import Images, parse
from clip_factory.seen_photos import SeenPhotos

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
KEYS = ("name", "positive", "negative", "images", "teacher", "labels", "student", "target", "gate", "gold", "answers")
IMAGES = pa.table({"path": ["a.jpg", "b/c.jpg"], "sha256": ["1", "2"], "reason": [None, None]})


@given(st.text(max_size=300) | st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1).map(json.dumps))
@example("name: &a [*a]")
def test_a_scenario(text: str) -> None:
    with _words(FactoryError):
        assert parse(text, "x.yaml").name


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(str.encode),
    st.sampled_from([b"", b"path,label\n", b"path;label\r\n"]),
)
def test_a_table_of_labels(data: bytes, heading: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "g.csv")
        file.write_bytes(heading + data)
        with _words(FactoryError):
            assert read_gold(file, IMAGES).labels.keys() <= {"1", "2"}


@given(st.text(max_size=60))
def test_a_name_of_a_photo(name: str) -> None:
    assert PhotoNames({"a.jpg": "1", "b/c.jpg": "2"}).find(name) <= {"1", "2"}


@settings(max_examples=60)
@given(st.binary(max_size=400), st.sampled_from([b"", b"PK\x03\x04", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\x00"]))
def test_an_archive(data: bytes, start: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "archive").write_bytes(start + data)
        with _words(FactoryError):
            locate(Images(path=str(Path(folder, "archive"))), Path(folder, "store"))


@given(st.binary(max_size=300))
def test_a_list_of_addresses(data: bytes) -> None:
    urls = addresses(data)
    assert urls is None or all(url.startswith(("http:", "https:")) for url in map(str.lower, urls))


@given(st.binary(max_size=300) | JSON.map(lambda tree: json.dumps(tree).encode()))
def test_a_list_of_what_was_left_out(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "x.left-out.json").write_bytes(data)
        assert all(isinstance(one.name, str) for one in read_left_out(Path(folder, "x")))


@given(st.lists(st.binary(max_size=80) | JSON.map(lambda tree: json.dumps(tree).encode()), max_size=5))
def test_a_journal_of_answers(lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "x.answers.jsonl")
        file.write_bytes(b"\n".join(lines))
        with _words(FactoryError):
            assert Journal(file).ledger().gold.keys() is not None


@given(st.binary(max_size=300))
def test_a_picture(data: bytes) -> None:
    for start in (
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        b"RIFF\0\0\0\0WEBP",
        b"\0\0\0\x18ftypheic",
    ):
        with _words(ImageError):
            assert read_rgb(start + data).mode == "RGB"


@given(st.binary(max_size=300))
def test_a_model(data: bytes) -> None:
    with _words(ValueError):
        check_operators(data)


@given(
    st.dictionaries(
        st.sampled_from(["format", "name", "question", "classes", "threshold", "image_size", "preprocessing"]),
        st.text(max_size=30),
    )
)
def test_the_metadata_of_a_model(metadata: dict[str, str]) -> None:
    with _words(ModelError):
        check_metadata(
            {"format": "clip-factory/1", "name": "x", "question": "?", "classes": '["no", "yes"]'} | metadata
        )


@given(st.binary(max_size=200) | JSON.map(lambda tree: json.dumps(tree).encode()))
def test_the_index_of_a_registry(data: bytes) -> None:
    with _words(RegistryError):
        Index.parse(data)


@given(st.binary(max_size=200), st.sampled_from([b"", b"sha256,split,phash,dhash\n"]))
def test_a_table_of_splits(data: bytes, heading: bytes) -> None:
    with _words(RegistryError):
        SeenPhotos.parse(heading + data, "x")


@given(st.text(max_size=60))
def test_no_text_that_is_shown_is_obeyed(text: str) -> None:
    assert all(is_plain(sign) for sign in visible(text) if sign not in "\n\t")
    assert (
        "@" not in without_secrets(f"https://{text.replace('/', '')}@host/path").partition("://")[2].partition("/")[0]
    )


class _words:  # noqa: N801 - reads as a statement
    """Passes over errors of one kind, whose message has words; all others are raised."""

    def __init__(self, kind: type[Exception]) -> None:
        self.kind = kind

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> bool:
        if isinstance(error, self.kind):
            assert str(error).strip()
            return True
        return False


def test_errors_of_other_kinds_are_not_passed_over() -> None:
    with pytest.raises(KeyError), _words(ValueError):
        raise KeyError("x")
