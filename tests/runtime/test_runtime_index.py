"""index.json: what it says, what is refused, and the signatures on releases."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_factory.runtime import FactoryError
from clip_factory.runtime.releases.release_index import Index
from clip_factory.runtime.releases.release_record import Release
from clip_factory.runtime.releases.release_reference import Reference, is_alias, is_slug
from clip_factory.runtime.releases.release_signature import verify_signature
from clip_factory.runtime.runtime_errors import RegistryError


def release(version: int = 3, **changes: Any) -> dict[str, Any]:
    model = {"sha256": "ab" * 32, "size": 291_804}
    return {
        "name": "forklift",
        "version": version,
        "question": "Is there a forklift? 叉车 – ça va",
        "classes": ["no", "yes"],
        "threshold": 0.43,
        "sha256": model["sha256"],
        "size": model["size"],
        "passed": True,
        "forced": False,
        "created": "2026-11-25T09:00:00Z",
        "by": "Ana",
        "files": {"model.onnx": model, "card.md": {"sha256": "cd" * 32, "size": 10}},
        "signature": None,
    } | changes


def tree(**changes: Any) -> dict[str, Any]:
    entry = {
        "question": "Is there a forklift?",
        "aliases": {"champion": 3},
        "versions": {"3": release(3), "12": release(12)},
    }
    return {"format": "clip-factory-registry/1", "models": {"forklift": entry | changes}}


def refusal(value: Any) -> str:
    with pytest.raises(RegistryError) as caught:
        Index.parse(value if isinstance(value, (bytes, str)) else json.dumps(value))
    return str(caught.value)


def test_what_was_written_is_what_is_read() -> None:
    index = Index.parse(json.dumps(tree()))
    assert index.to_json() == tree()
    assert index.models["forklift"].versions[3].files["card.md"].size == 10
    assert Release.parse(index.models["forklift"].versions[3].to_json()) == index.models["forklift"].versions[3]


def test_where_files_lie() -> None:
    index = Index.parse(json.dumps(tree()))
    three = index.models["forklift"].versions[3]
    assert index.location(three) == f"blobs/ab/{'ab' * 32}"
    assert index.location(three, "card.md") == f"blobs/cd/{'cd' * 32}"
    other = Index.parse(json.dumps(tree() | {"layout": "../{name}-v{version}/{file}"}))
    assert other.location(three, "card.md") == "../forklift-v3/card.md"
    assert Index.parse(json.dumps(other.to_json())) == other
    with pytest.raises(RegistryError) as caught:
        index.location(three, "../x")
    assert str(caught.value) == 'forklift@3 has no file "../x"\n  files: card.md, model.onnx'


@pytest.mark.parametrize(
    "layout",
    [
        *(
            "",
            "/etc/passwd",
            "../../x",
            "a/../b",
            "..",
            "a//b",
            "file:///x",
            "//host/x",
            "{other}",
            "{name.x}",
            ".ssh/x",
        ),
        *("a\\b", "a/", "a..b", "{name!r}", "a b", "a?b", "a%2e%2e/b"),
    ],
)
def test_layouts_that_are_refused(layout: str) -> None:
    assert refusal(tree() | {"layout": layout}).startswith(f"index.json: `layout` is {json.dumps(layout)}, expected")


# --- references


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("forklift", Reference("forklift")),
        ("fork-lift_2@3", Reference("fork-lift_2", version=3)),
        ("forklift@champion", Reference("forklift", alias="champion")),
    ],
)
def test_references(text: str, expected: Reference) -> None:
    assert Reference.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "@3", "forklift@", "forklift@0", "forklift@03", "forklift@-1", "forklift@1@2", "Forklift", "../x"),
        *("a/b@3", "forklift@../../x", "forklift@3\n", "forklift\n", "a--b", "x" * 101, "forklift@9999999999", "f@٣"),
        "model.onnx",
    ],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(RegistryError) as caught:
        Reference.parse(text)
    shown = json.dumps(text)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    assert str(caught.value) == f"{shown} names no model\n  expected NAME, NAME@VERSION or NAME@ALIAS"


def test_a_number_is_no_alias() -> None:
    assert is_alias("champion") and is_alias("v2") and not is_alias("2") and not is_alias("a/b")
    assert is_slug("2") and not is_slug("a@b")


def test_a_bare_name_is_the_champion_or_else_the_newest() -> None:
    found = Index.parse(json.dumps(tree())).find(Reference("forklift"))
    assert found.version == 3
    assert Index.parse(json.dumps(tree(aliases={"old": 3}))).find(Reference("forklift")).version == 12
    assert Index.parse(json.dumps(tree())).find(Reference("forklift", version=12)).version == 12
    assert Index.parse(json.dumps(tree())).find(Reference("forklift", alias="champion")).version == 3


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("ball", "no model ball in the registry\n  models: forklift"),
        ("forklift@4", "forklift has no version 4\n  versions: 3, 12"),
        ("forklift@next", "forklift has no alias next\n  aliases: champion"),
    ],
)
def test_what_is_not_there_names_what_is(reference: str, message: str) -> None:
    with pytest.raises(RegistryError) as caught:
        Index.parse(json.dumps(tree())).find(Reference.parse(reference))
    assert str(caught.value) == message


def test_an_empty_registry() -> None:
    empty = Index.parse('{"format": "clip-factory-registry/1", "models": {}}')
    with pytest.raises(RegistryError, match=r"^no model ball in the registry\n  it has no models$"):
        empty.find(Reference("ball"))


# --- what is refused

DEEP = "index.json: models.forklift.versions.3"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": True}, "`version` is true, expected a whole number from 1 to 999999999"),
        ({"version": 4}, "the release calls itself forklift@4"),
        ({"name": "ball"}, "the release calls itself ball@3"),
        ({"name": "../ball"}, '`name` is "../ball", expected text like [a-z0-9]+(?:[-_][a-z0-9]+)*'),
        ({"question": "a\u001b[2Jb"}, '`question` is "a\\u001b[2Jb", expected one line of at most 1000 characters'),
        ({"question": "a\nb"}, '`question` is "a\\nb", expected one line of at most 1000 characters'),
        ({"question": "\ud800"}, '`question` is "\\ud800", expected one line of at most 1000 characters'),
        ({"question": "a\u202eb"}, '`question` is "a\\u202eb", expected one line of at most 1000 characters'),
        ({"by": ""}, '`by` is "", expected one line of at most 1000 characters'),
        ({"classes": ["yes", "no"]}, '`classes` is a list, expected ["no", "yes"]'),
        ({"threshold": 1.5}, "`threshold` is 1.5, expected a number in [0, 1]"),
        ({"threshold": True}, "`threshold` is true, expected a number in [0, 1]"),
        ({"sha256": "AB" * 32}, f'`sha256` is "{"AB" * 32}", expected 64 hex digits in small letters'),
        ({"sha256": "../" * 30}, f'`sha256` is "{("../" * 30)[:76]}..., expected 64 hex digits in small letters'),
        ({"sha256": "ef" * 32}, "`files` and `sha256`, `size` disagree about model.onnx"),
        ({"size": 291_805}, "`files` and `sha256`, `size` disagree about model.onnx"),
        ({"size": 0}, "`size` is 0, expected a whole number from 1 to 256000000"),
        ({"size": 10**12}, "`size` is 1000000000000, expected a whole number from 1 to 256000000"),
        ({"size": 10.0}, "`size` is 10.0, expected a whole number from 1 to 256000000"),
        ({"passed": 1}, "`passed` is 1, expected true or false"),
        ({"created": "yesterday"}, '`created` is "yesterday", expected text like '),
        ({"files": {}}, "`files` and `sha256`, `size` disagree about model.onnx"),
        ({"files": {"../card.md": {}}}, '`files` has "../card.md", expected text like '),
        ({"files": {"model.onnx": 3}}, ".files.model.onnx: is 3, expected an object"),
        ({"signature": "****"}, '`signature` is "****", expected base64 of 64 bytes, or null'),
        ({"signature": "AAAA"}, '`signature` is "AAAA", expected base64 of 64 bytes, or null'),
        ({"color": 1}, 'unknown key "color"\n  a newer factory may read it'),
    ],
)
def test_a_release_that_is_refused(changes: dict[str, Any], message: str) -> None:
    said = refusal(tree(versions={"3": release(**changes)}))
    joint = "" if message.startswith(".") else ": "
    if message.endswith("text like "):
        assert said.startswith(f"{DEEP}{joint}{message}")
    else:
        assert said == f"{DEEP}{joint}{message}"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[]", "index.json: is a list, expected an object"),
        ("{}", "index.json: `format` is missing"),
        ('{"format": 1}', 'index.json: `format` is 1, expected "clip-factory-registry/1"\n'
         "  is this the root of a registry?"),
        ('{"format": "clip-factory-registry/2"}',
         'index.json: `format` is "clip-factory-registry/2", expected "clip-factory-registry/1"\n'
         "  a newer factory may read it"),
        ({"format": "clip-factory-registry/1", "models": []}, "index.json: `models` is a list, expected an object"),
        ('{"format": "clip-factory-registry/1", "models": {"../x": 1}}',
         'index.json: `models` has "../x", expected text like [a-z0-9]+(?:[-_][a-z0-9]+)*'),
        (tree(aliases={"champion": 7}),
         "index.json: models.forklift.aliases: champion stands for version 7, which is not there"),
        (tree(aliases={"7": 3}), "index.json: models.forklift.aliases: 7 is a number, which would be a version"),
        (tree(versions={"03": release()}), 'index.json: models.forklift: `versions` has "03", expected text like '
         "[1-9][0-9]{0,8}"),
        ('{"a": NaN}', "index.json: not JSON (ValueError: NaN is not JSON)"),
        ("[" * 100_000, "index.json: not JSON (RecursionError: "
         "maximum recursion depth exceeded while decoding a JSON array from a unicode string)"[:200]),
    ],
)  # fmt: skip
def test_an_index_that_is_refused(value: Any, message: str) -> None:
    assert refusal(value).startswith(message[:110])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes | str) -> None:
    with pytest.raises(FactoryError):
        Index.parse(data)


@given(st.sampled_from(sorted(release())), JSON, st.sampled_from(["release", "entry", "index"]), st.text(max_size=9))
def test_any_value_anywhere_is_read_or_refused(key: str, value: Any, level: str, other: str) -> None:
    whole = tree()
    entry = whole["models"]["forklift"]
    target = {"release": entry["versions"]["3"], "entry": entry, "index": whole}[level]
    target[key if level == "release" else other] = value
    try:
        found = Index.parse(json.dumps(whole))
    except FactoryError as error:
        assert str(error).isprintable() or "\n" in str(error)
    else:
        assert Index.parse(json.dumps(found.to_json())) == found
        found.models["forklift"].versions[3].canonical()


# --- signatures


@pytest.fixture(scope="module")
def keys() -> Any:
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate()


def pem(private: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    return private.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)


def signed(private: Any) -> Release:
    plain = Release.parse(release())
    return replace(plain, signature=base64.b64encode(private.sign(plain.canonical())).decode())


def test_the_bytes_that_are_signed_never_change() -> None:
    assert (
        Release.parse(release(files={"model.onnx": {"size": 291_804, "sha256": "ab" * 32}})).canonical()
        == (
            '{"by":"Ana","classes":["no","yes"],"created":"2026-11-25T09:00:00Z","files":{"model.onnx":{"sha256":"'
            + "ab" * 32
            + '","size":291804}},"forced":false,"name":"forklift","passed":true,"question":"Is there a forklift? 叉车 –'
            ' ça va","sha256":"' + "ab" * 32 + '","size":291804,"threshold":0.43,"version":3}'
        ).encode()
    )


def test_a_signed_release(keys: Any) -> None:
    ours = signed(keys)
    verify_signature(ours, pem(keys))
    verify_signature(Release.parse(json.loads(json.dumps(ours.to_json()))), pem(keys).decode())


@pytest.mark.parametrize(
    "changes", [{"version": 4}, {"threshold": 0.1}, {"passed": False}, {"name": "ball"}, {"question": "Is it safe?"}]
)
def test_a_release_altered_after_it_was_signed(keys: Any, changes: dict[str, Any]) -> None:
    altered = replace(signed(keys), **changes)
    with pytest.raises(RegistryError) as caught:
        verify_signature(altered, pem(keys))
    assert str(caught.value) == (
        f"{altered}: the signature is not of this key, or the release was altered after it was signed\n"
        "  do not use it; ask who runs the registry"
    )


def test_another_key_no_signature_and_no_key(keys: Any) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    with pytest.raises(RegistryError, match="the signature is not of this key"):
        verify_signature(signed(keys), pem(Ed25519PrivateKey.generate()))
    with pytest.raises(RegistryError) as caught:
        verify_signature(Release.parse(release()), pem(keys))
    assert str(caught.value) == ("forklift@3: not signed, and a public key is configured\n  publish it with the key")
    for wrong in (b"", b"no key", pem(X25519PrivateKey.generate())):
        with pytest.raises(RegistryError) as caught:
            verify_signature(signed(keys), wrong)
        assert str(caught.value) == (
            "the public key is not an ed25519 key in PEM\n  factory models keys makes a pair: give the public one"
        )


def test_without_the_cryptography_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(RegistryError) as caught:
        verify_signature(Release.parse(release()), b"")
    assert str(caught.value) == (
        "a signature is to be checked, but cryptography is not installed\n  pip install cryptography"
    )
