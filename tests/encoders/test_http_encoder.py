"""The client of an encoder's server: what it asks, how it waits, and what it does not believe."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clip_factory.encoders import http_encoder, load_encoder
from clip_factory.encoders.http_encoder import HttpEncoder
from clip_factory.encoders.wire_format import (
    KEY_HEADER,
    PROTOCOL,
    EncoderFacts,
    Limits,
    WireError,
    pack_photos,
    pack_vectors,
    unpack_photos,
)
from clip_factory.errors import ScenarioError, TeacherError
from clip_factory.runtime.preprocessing import RULES
from clip_factory.scenario import Teacher, parse
from support.axis_encoder import AxisEncoder
from support.encoder_site import TOKEN, pictures
from support.loopback import Loopback, Quiet, Request, Response, reply, self_signed, serving

ENCODER = AxisEncoder("red", "green", "blue")
LIMITS = Limits(photos=16, texts=8, pixels=10_000, bytes=40_000, seconds=5)


class FakeServer(Loopback):
    """Answers as the server does, one request at a time; `facts` and `key` can be changed."""

    def __init__(self) -> None:
        super().__init__()
        self.facts: Any = EncoderFacts.of(ENCODER, LIMITS).to_json()
        self.key: str | None = ENCODER.key
        self.vectors: bytes | None = None

    def answer(self, request: Request) -> Response:
        path = request.path.removeprefix("/clip")
        if path == "/v1/encoder":
            return reply(self.facts)
        named = {} if self.key is None else {KEY_HEADER: self.key}
        if path == "/v1/check/texts":
            return Response(200, b'{"texts": [{"unknown_words": ["x"], "is_truncated": true}]}', named)
        return Response(200, self.vectors if self.vectors is not None else pack_vectors(self.embed(request)), named)

    def embed(self, request: Request) -> np.ndarray:
        if request.path.endswith("/v1/embed/texts"):
            return ENCODER.embed_texts(request.json["texts"])
        photos = unpack_photos(memoryview(request.body), LIMITS)
        return ENCODER.embed_images([Image.frombytes("RGB", size, pixels) for size, pixels in photos])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    monkeypatch.setattr(http_encoder, "FIRST_PATIENCE", 0.5)
    monkeypatch.setattr(http_encoder, "_BACKOFF", lambda state: 0.01)
    monkeypatch.setattr(http_encoder, "_JITTER", lambda state: 0.0)
    with FakeServer() as server:
        yield server


def load(server: FakeServer) -> HttpEncoder:
    return load_encoder(Teacher(model=server.url))


# What it asks


def test_photos_go_out_in_requests_that_the_server_allows(server: FakeServer) -> None:
    remote = load(server)
    images = [*pictures(40), Image.new("RGB", (99, 99), "red"), *pictures(3, seed=1)]
    vectors = remote.embed_images(images)

    assert vectors.tobytes() == ENCODER.embed_images(images).tobytes()
    counts = [len(unpack_photos(memoryview(call.body), LIMITS)) for call in server.calls if call.method == "POST"]
    assert sum(counts) == 44 and max(counts) == 16
    assert all(len(call.body) <= LIMITS.bytes for call in server.calls)


def test_texts_go_out_in_requests_that_the_server_allows(server: FakeServer) -> None:
    texts = [f"{color} {i}" for i in range(7) for color in ("red", "green", "blue")]

    assert load(server).embed_texts(texts).tobytes() == ENCODER.embed_texts(texts).tobytes()
    assert [len(call.json["texts"]) for call in server.calls[1:]] == [8, 8, 5]


def test_a_path_before_the_servers_own_stays(server: FakeServer) -> None:
    load_encoder(Teacher(model=f"{server.url}/clip/")).embed_texts(["red"])

    assert server.seen() == ["GET /clip/v1/encoder", "POST /clip/v1/embed/texts"]


def test_it_can_be_sent_to_another_process_without_the_token(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACTORY_ENCODER_TOKEN", TOKEN)
    packed = pickle.dumps(load(server))

    assert TOKEN.encode() not in packed
    assert pickle.loads(packed).embed_texts(["red"]).shape == (1, 4)
    assert {call.token for call in server.calls} == {TOKEN}


def test_it_needs_no_torch() -> None:
    code = "import sys; import clip_factory.encoders.http_encoder; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# How it waits


def busy(status: int, **headers: str) -> Response:
    return Response(status, b"", headers)


def test_a_server_that_is_busy_or_away_for_a_while_is_asked_again(server: FakeServer) -> None:
    remote = load(server)
    server.failures.extend(busy(status) for status in (429, 502, 503, 504, 408))
    vectors = remote.embed_images(pictures(1))

    assert vectors.tobytes() == ENCODER.embed_images(pictures(1)).tobytes()
    assert len(server.calls) == 7
    assert len({call.body for call in server.calls[1:]}) == 1


def test_it_waits_as_long_as_the_server_asks(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []
    monkeypatch.setattr("tenacity.nap.sleep_using_event.__call__", lambda self, seconds: waited.append(seconds))
    monkeypatch.setattr(http_encoder, "_JITTER", lambda state: 0.25)
    remote = load(server)
    for header in ({"Retry-After": "7"}, {"Retry-After": "soon"}, {"Retry-After": "-3"}, {"Retry-After": "999999"}):
        server.failures.append(busy(429, **header))
    remote.embed_images(pictures(1))

    assert waited == [7.25, 0.01, 0.01, http_encoder.PATIENCE + 0.25]


def test_waits_without_a_word_from_the_server_grow_and_are_random() -> None:
    from tenacity import RetryCallState

    state = RetryCallState(None, None, (), {})
    bounds = []
    for state.attempt_number in range(1, 12):
        waits = [http_encoder._BACKOFF(state) for _ in range(200)]
        assert len(set(waits)) > 100
        bounds.append(max(waits))
    assert bounds[0] <= 0.5 and bounds[3] > bounds[0] and max(bounds) <= http_encoder.MAX_WAIT


def test_in_the_end_it_gives_up_and_says_that_nothing_is_lost(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = load(server)
    monkeypatch.setattr(http_encoder, "PATIENCE", 0.2)
    server.failures.extend(reply({"detail": "900 photos wait already"}, 429) for _ in range(500))
    with pytest.raises(TeacherError, match="busy all the time: 900 photos wait already") as caught:
        remote.embed_images(pictures(1))

    assert server.url in caught.value.what and "what was embedded is kept" in caught.value.hint


def test_where_nobody_answers_the_address_and_the_way_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_encoder, "FIRST_PATIENCE", 0.2)
    with pytest.raises(TeacherError, match=r"http://127\.0\.0\.1:9: cannot be reached") as caught:
        load_encoder(Teacher(model="http://127.0.0.1:9"))

    assert "factory encoders serve" in caught.value.hint


def test_one_part_that_fails_ends_the_waiting_for_the_others(server: FakeServer) -> None:
    remote = load(server)
    server.failures.extend([reply({"detail": "RuntimeError: out of memory"}, 500), *[busy(503)] * 10_000])
    with pytest.raises(TeacherError, match=r"refuses \(500\): RuntimeError: out of memory"):
        remote.embed_images(pictures(64))
    calls = len(server.calls)

    assert threading.active_count() < 20 and calls < 5_000


def test_an_outage_is_announced_once(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    remote = load(server)
    server.failures.extend(busy(503) for _ in range(9))
    remote.embed_images(pictures(1))

    assert capsys.readouterr().err.count("is busy (HTTP 503); it is asked again") == 1


# What it does not believe


@pytest.mark.parametrize("key", ["another-key", None, "axes-1 "])
def test_another_encoder_in_the_servers_place_is_refused(key: str | None, server: FakeServer) -> None:
    remote = load(server)
    server.key = key
    for call in (
        lambda: remote.embed_images(pictures(2)),
        lambda: remote.embed_texts(["a"]),
        lambda: remote.unknown_words("a"),
    ):
        if key == "axes-1 ":  # HTTP does not count spaces at the end
            call()
            continue
        with pytest.raises(TeacherError, match=f"it was the encoder axes-1, and is {key or 'none'} now"):
            call()


@pytest.mark.parametrize(
    "vectors",
    [
        b"",
        pack_vectors(np.eye(4)[:1]),
        pack_vectors(np.eye(4)[:2])[:-1],
        pack_vectors(np.eye(4)[:3]),
        pack_vectors(np.full((2, 4), np.nan)),
        pack_vectors(np.full((2, 4), np.inf)),
        pack_vectors(np.zeros((2, 4))),
        pack_vectors(np.full((2, 4), 1e30)),
        pack_vectors(np.eye(4)[:2] * 1.02),
    ],
)
def test_answers_that_are_no_vectors_are_refused(vectors: bytes, server: FakeServer) -> None:
    remote = load(server)
    server.vectors = vectors
    with pytest.raises(TeacherError, match=r"no encoder's server|more than the 32 bytes expected"):
        remote.embed_images(pictures(2))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"protocol": PROTOCOL + 1}, f"its protocol is {PROTOCOL + 1}, and {PROTOCOL} is spoken here"),
        ({"rules": RULES + 1}, f"its rules is {RULES + 1}, and {RULES} is spoken here"),
        ({"dim": 0}, "its dim is not a number from 1"),
        ({"dim": "4"}, "its dim is not a number from 1"),
        ({"dim": True}, "its dim is not a number from 1"),
        ({"dim": 10**9}, "its dim is not a number from 1"),
        ({"image_size": -1}, "its image_size is not"),
        ({"logit_scale": float("nan")}, "its logit_scale is no number"),
        ({"logit_bias": None}, "its logit_bias is no number"),
        ({"key": ""}, "its key is no text"),
        ({"name": "x" * 501}, "its name is no text"),
        ({"license": 7}, "its license is no text"),
        ({"about": []}, "its limits or what it is about are missing"),
        ({"limits": {}}, "its photos is not a number"),
        ({"limits": {**vars(LIMITS), "bytes": 0}}, "its bytes is not a number"),
    ],
)
def test_what_a_server_says_of_itself_is_checked(change: dict[str, Any], reason: str, server: FakeServer) -> None:
    server.facts.update(change)
    with pytest.raises(TeacherError, match=re.escape(reason)):
        load(server)


@pytest.mark.parametrize("facts", [None, [], "hello", {}, [[]] * 1000])
def test_other_servers_are_no_encoders(facts: object, server: FakeServer) -> None:
    server.facts = facts
    with pytest.raises(TeacherError, match="no encoder's server that is understood here"):
        load(server)


def test_a_page_is_no_encoder_and_redirects_are_not_followed(server: FakeServer) -> None:
    server.failures.append(Response(200, b"<html>"))
    with pytest.raises(TeacherError, match="no encoder's server"):
        load(server)
    server.failures.append(Response(307, b"", {"Location": "https://elsewhere.example/v1/encoder"}))
    with pytest.raises(TeacherError, match=r"refuses \(307\)"):
        load(server)
    server.failures.append(Response(200, b"[" * 1_000_001))
    with pytest.raises(TeacherError, match="more than the 1,000,000 bytes expected"):
        load(server)


def test_what_facts_say_survives_the_wire() -> None:
    facts = EncoderFacts.of(ENCODER, LIMITS)

    assert EncoderFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


def test_a_body_is_read_as_it_was_written() -> None:
    images = pictures(3)
    photos = unpack_photos(memoryview(pack_photos(images)), LIMITS)

    assert [Image.frombytes("RGB", *photo).tobytes() for photo in photos] == [image.tobytes() for image in images]
    assert [size for size, _ in photos] == [(9, 8)] * 3
    with pytest.raises(WireError):
        unpack_photos(memoryview(pack_photos(images)[:-1]), LIMITS)


def test_a_photo_over_the_servers_limit_is_not_sent(server: FakeServer) -> None:
    remote = load(server)
    for size in ((101, 100), (1, 10_001)):
        with pytest.raises(TeacherError, match=f"a photo of {size[0]} x {size[1]} is over the server's limit"):
            remote.embed_images([*pictures(1), Image.new("RGB", size)])
    assert len(server.calls) == 1


# Secrets


@pytest.mark.parametrize("model", ["http://user:geheim@host:1", "https://geheim@host/x", "http://:geheim@host"])
def test_an_address_with_a_password_is_refused_and_not_repeated(model: str) -> None:
    with pytest.raises(ScenarioError, match="holds no secrets") as caught:
        Teacher.parse(model)
    assert "geheim" not in str(caught.value) and "FACTORY_ENCODER_TOKEN" in str(caught.value)
    with pytest.raises(ScenarioError, match="holds no secrets") as caught:
        parse(f"name: x\npositive: [x]\nteacher: {{model: '{model}'}}\n")
    assert "geheim" not in str(caught.value)
    with pytest.raises(TeacherError, match="hold no secrets") as caught:
        http_encoder.connect(Teacher.model_construct(model=model))
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    "model", ["http:", "http://", "http:///x", "http://h:port", "http://h?x=1", "http://h#x", "http://[::1"]
)
def test_what_is_no_address_is_refused(model: str) -> None:
    with pytest.raises(TeacherError, match="no address of a server"):
        load_encoder(Teacher(model=model))


def test_the_token_does_not_travel_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACTORY_ENCODER_TOKEN", TOKEN)
    with pytest.raises(TeacherError, match="not https, and the token must not travel in the clear") as caught:
        load_encoder(Teacher(model="http://192.0.2.1:8600"))
    assert TOKEN not in str(caught.value)


def test_a_private_network_can_be_trusted(monkeypatch: pytest.MonkeyPatch, server: FakeServer) -> None:
    monkeypatch.setenv("FACTORY_ENCODER_TOKEN", TOKEN)
    monkeypatch.setattr(http_encoder, "LOOPBACK", ())
    with pytest.raises(TeacherError, match="in the clear"):
        load(server)
    monkeypatch.setenv("FACTORY_ENCODER_INSECURE", "1")
    assert load(server).key == "axes-1"


@pytest.mark.parametrize("token", ["two words", "ümlaut", "line\nbreak"])
def test_a_token_that_is_none_is_named_by_its_variable(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACTORY_ENCODER_TOKEN", token)
    with pytest.raises(TeacherError, match=r"\$FACTORY_ENCODER_TOKEN holds no token"):
        load_encoder(Teacher(model="http://127.0.0.1:9"))


def test_a_server_that_speaks_no_https_is_named_as_one(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_encoder, "FIRST_PATIENCE", 0.5)
    with pytest.raises(TeacherError, match="cannot be reached") as caught:
        load_encoder(Teacher(model=server.url.replace("http://", "https://")))
    assert (caught.value.hint or "").startswith("what answers there speaks no https: name it http://")


def test_a_refused_token_is_explained(server: FakeServer) -> None:
    server.failures.append(reply({"detail": "this server wants its token"}, 401))
    with pytest.raises(TeacherError, match="this server wants its token") as caught:
        load(server)
    assert caught.value.hint == "put the server's token into $FACTORY_ENCODER_TOKEN"


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_encoder, "FIRST_PATIENCE", 0.2)
    with (
        serving(Quiet, self_signed(tmp_path / "server.pem")) as url,
        pytest.raises(TeacherError, match=r"(?i)certificate"),
    ):
        load_encoder(Teacher(model=url))


def test_over_https_the_token_travels_to_a_certificate_that_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path / "server.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("FACTORY_ENCODER_TOKEN", TOKEN)
    monkeypatch.setattr(http_encoder, "LOOPBACK", ())
    http_encoder._client.cache_clear()
    server = FakeServer()
    with serving(server._handler(), certificate) as url:
        remote = load_encoder(Teacher(model=url))
        vectors = remote.embed_images(pictures(3))
    http_encoder._client.cache_clear()

    assert url.startswith("https://")
    assert vectors.tobytes() == ENCODER.embed_images(pictures(3)).tobytes()
    assert {call.token for call in server.calls} == {TOKEN}
