"""An encoder's server as its clients meet it: vectors, batches, limits, refusals."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx2
import numpy as np
import pytest
from PIL import Image

from clip_factory.encoders import load_encoder
from clip_factory.encoders.wire_format import BINARY, pack_photos, unpack_vectors
from clip_factory.scenario import Teacher
from clip_factory.serve.encoder_server import EncoderServer
from support.axis_encoder import AxisEncoder
from support.encoder_site import TOKEN, GatedEncoder, metric, pictures, served

CLIENT = httpx2.Client(verify=False, trust_env=False, timeout=30)
IMAGES, TEXTS, WORDS = "/v1/embed/images", "/v1/embed/texts", "/v1/check/texts"


@pytest.fixture
def encoder() -> GatedEncoder:
    return GatedEncoder()


@pytest.fixture
def server(encoder: GatedEncoder) -> Iterator[EncoderServer]:
    with served(encoder) as server:
        yield server


def post(server: EncoderServer, path: str, body: bytes, kind: str = BINARY, **headers: str) -> httpx2.Response:
    return CLIENT.post(server.url + path, content=body, headers={"Content-Type": kind, **headers})


def ask(server: EncoderServer, images: list[Image.Image]) -> httpx2.Response:
    return post(server, IMAGES, pack_photos(images))


def metrics(server: EncoderServer) -> str:
    return CLIENT.get(f"{server.url}/metrics").text


def test_vectors_are_those_of_the_encoder(server: EncoderServer, encoder: GatedEncoder) -> None:
    remote = load_encoder(Teacher(model=server.url))
    images = pictures(21)

    assert remote.embed_images(images).tobytes() == encoder.embed_images(images).tobytes()
    texts = [f"{color} thing {i}" for i in range(5) for color in ("red", "green", "blue", "odd")]
    assert remote.embed_texts(texts).tobytes() == encoder.embed_texts(texts).tobytes()
    assert remote.embed_images([]).shape == (0, 4) and remote.embed_texts([]).shape == (0, 4)
    for name in ("name", "key", "license", "dim", "image_size", "logit_scale", "logit_bias", "about"):
        assert getattr(remote, name) == getattr(encoder, name), name


def test_what_the_tokenizer_knows_is_asked_of_the_server() -> None:
    class Tokenizing(AxisEncoder):
        def unknown_words(self, text: str) -> list[str]:
            return [word for word in text.split() if not word.isascii()]

        def is_truncated(self, text: str) -> bool:
            return len(text) > 10

    with served(Tokenizing("red")) as server:
        remote = load_encoder(Teacher(model=server.url))
        assert remote.unknown_words("ein Gabelstapler ☃ ☂") == ["☃", "☂"]
        assert (remote.is_truncated("short"), remote.is_truncated("much too long")) == (False, True)


def test_an_encoder_that_knows_nothing_of_words_has_nothing_against_any(server: EncoderServer) -> None:
    remote = load_encoder(Teacher(model=server.url))

    assert (remote.unknown_words("☃"), remote.is_truncated("a " * 500)) == ([], False)


def test_photos_of_two_clients_are_embedded_together(server: EncoderServer, encoder: GatedEncoder) -> None:
    encoder.gate.clear()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(ask, server, pictures(1))
        assert encoder.entered.acquire(timeout=10)  # the encoder is busy with it
        others = [pool.submit(ask, server, pictures(3, seed=seed)) for seed in (1, 2)]
        wait_for(lambda: metric(metrics(server), "factory_encoder_waiting_photos") == 7)
        encoder.gate.set()
        answers = [one.result() for one in (first, *others)]

    assert encoder.batches == [1, 6]
    for seed, answer in zip((1, 2), answers[1:], strict=True):
        assert answer.content == encoder.embed_images(pictures(3, seed=seed)).tobytes()
    text = metrics(server)
    assert metric(text, "factory_encoder_batch_photos_count") == 2
    assert metric(text, "factory_encoder_batch_photos_bucket", le="4.0") == 1, "one of the two held more than 4"
    assert metric(text, "factory_encoder_photos_total") == 7


def test_a_batch_is_no_larger_than_allowed(server: EncoderServer, encoder: GatedEncoder) -> None:
    assert ask(server, pictures(16)).status_code == 200
    assert max(encoder.batches) <= 8 and sum(encoder.batches) == 16


def test_a_batch_that_is_not_full_waits_for_more(encoder: GatedEncoder) -> None:
    with served(encoder, max_wait=10) as server, ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(ask, server, pictures(4, seed=seed)) for seed in (1, 2)]
        assert {one.result().status_code for one in answers} == {200}

    assert encoder.batches == [8]


def test_a_photo_that_waits_or_was_embedded_is_not_embedded_again(server: EncoderServer, encoder: GatedEncoder) -> None:
    encoder.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(ask, server, pictures(3)) for _ in range(2)]
        wait_for(lambda: metric(metrics(server), "factory_encoder_photos_reused_total") == 3)
        encoder.gate.set()
        once, twice = (one.result().content for one in both)
    later = ask(server, pictures(4) + pictures(1))

    assert once == twice == later.content[: len(once)] and later.content[-16:] == once[:16]
    assert sum(encoder.batches) == 4
    assert metric(metrics(server), "factory_encoder_photos_reused_total") == 7


def test_pictures_of_the_same_bytes_and_another_shape_are_two(server: EncoderServer, encoder: GatedEncoder) -> None:
    flat = np.arange(24, dtype=np.uint8)
    shapes = [Image.fromarray(flat.reshape(shape)) for shape in ((2, 4, 3), (4, 2, 3))]

    assert ask(server, shapes).status_code == 200
    assert sum(encoder.batches) == 2


# Back-pressure


def test_a_full_queue_refuses_and_says_when_to_come_again(encoder: GatedEncoder) -> None:
    with served(encoder, max_waiting=16) as server, ThreadPoolExecutor(3) as pool:
        encoder.gate.clear()
        running = pool.submit(ask, server, pictures(1))
        assert encoder.entered.acquire(timeout=10)
        waiting = pool.submit(ask, server, pictures(16, seed=1))
        wait_for(lambda: metric(metrics(server), "factory_encoder_waiting_photos") == 17)
        refused = ask(server, pictures(1, seed=2))
        known = pool.submit(ask, server, pictures(16, seed=1))
        wait_for(lambda: metric(metrics(server), "factory_encoder_photos_reused_total") == 16)
        encoder.gate.set()

        assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 1
        assert refused.json()["detail"].startswith("16 photos wait already")
        assert {one.result().status_code for one in (running, waiting, known)} == {200}, "what waits needs no room"
        assert ask(server, pictures(1, seed=2)).status_code == 200
        assert metric(metrics(server), "factory_encoder_requests_total", path=IMAGES, code="429") == 1


def test_no_more_is_accepted_than_can_be_embedded_in_time(encoder: GatedEncoder) -> None:
    with served(encoder, seconds=2) as server, ThreadPoolExecutor(2) as pool:
        encoder.gate.clear()
        slow = pool.submit(ask, server, pictures(1))
        assert encoder.entered.acquire(timeout=10)
        time.sleep(0.6)  # seconds a photo; two of them are more than half of the time-out
        encoder.gate.set()
        assert slow.result().status_code == 200
        encoder.gate.clear()
        waiting = [pool.submit(ask, server, pictures(1, seed=1))]
        assert encoder.entered.acquire(timeout=10)
        waiting.append(pool.submit(ask, server, pictures(1, seed=2)))
        wait_for(lambda: metric(metrics(server), "factory_encoder_waiting_photos") == 2)
        refused = ask(server, pictures(1, seed=3))
        encoder.gate.set()

        assert refused.status_code == 429
        assert [one.result().status_code for one in waiting] == [200, 200]


def test_bodies_together_are_held_within_bounds(encoder: GatedEncoder) -> None:
    with served(encoder, max_held=40_000) as server, ThreadPoolExecutor(1) as pool:
        encoder.gate.clear()
        large = pool.submit(ask, server, pictures(1, side=99))
        assert encoder.entered.acquire(timeout=10)
        assert metric(metrics(server), "factory_encoder_held_bytes") > 29_000
        refused = ask(server, pictures(1, side=80))
        assert status(raw(server, request(IMAGES, b"", **{"Content-Length": "19450"}))) == 429, "before it is sent"
        encoder.gate.set()

        assert refused.status_code == 429 and "Retry-After" in refused.headers
        assert large.result().status_code == 200
        wait_for(lambda: metric(metrics(server), "factory_encoder_held_bytes") == 0)
        assert ask(server, pictures(1, side=80)).status_code == 200


def test_a_request_that_waits_too_long_is_let_go_and_its_photos_leave_the_queue(encoder: GatedEncoder) -> None:
    with served(encoder, seconds=1) as server, ThreadPoolExecutor(1) as pool:
        encoder.gate.clear()
        running = pool.submit(ask, server, pictures(1))
        assert encoder.entered.acquire(timeout=10)
        late = ask(server, pictures(2, seed=1))
        wait_for(lambda: metric(metrics(server), "factory_encoder_waiting_photos") == 1)
        encoder.gate.set()

        assert late.status_code == 503 and "Retry-After" in late.headers
        assert running.result().status_code == 503
        again = ask(server, pictures(1))
        assert again.content == encoder.embed_images(pictures(1)).tobytes()
        assert encoder.batches == [1, 1], "what was embedded too late is remembered; the last is this test's own call"


def test_photos_of_a_client_that_hangs_up_leave_the_queue(server: EncoderServer, encoder: GatedEncoder) -> None:
    encoder.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, server, pictures(1))
        assert encoder.entered.acquire(timeout=10)
        connection = raw(server, request(IMAGES, pack_photos(pictures(5, seed=1))))
        wait_for(lambda: metric(metrics(server), "factory_encoder_waiting_photos") == 6)
        connection.close()
        wait_for(lambda: metric(metrics(server), "factory_encoder_waiting_photos") == 1)
        encoder.gate.set()
        assert running.result().status_code == 200

    assert encoder.batches == [1]
    assert metric(metrics(server), "factory_encoder_requests_total", path=IMAGES, code="499") == 1


# Hostile bodies


def sizes(*sides: int, count: int | None = None) -> bytes:
    return struct.pack(f"<{1 + len(sides)}I", len(sides) // 2 if count is None else count, *sides)


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"", 400, "0 photos: a body holds from 1 to 16"),
        (b"\1\0", 400, "0 photos"),
        (sizes(count=0), 400, "0 photos"),
        (sizes(4, 4, count=17), 400, "17 photos"),
        (sizes(4, 4, count=2**32 - 1), 400, "4,294,967,295 photos"),
        (sizes(4, 4, count=2), 400, "the body ends before the sizes of its photos"),
        (sizes(0, 4), 400, "photo 0 has no pixels"),
        (sizes(4, 4) + b"x" * 47, 400, "the body has 59 bytes; by the sizes of its photos it should have 60"),
        (sizes(4, 4) + b"x" * 49, 400, "it should have 60"),
        (sizes(4, 4, 2**32 - 1, 2**32 - 1) + b"x" * 48, 413, "photo 1 is 4,294,967,295 x 4,294,967,295, over the"),
        (sizes(101, 100) + b"x" * 30_300, 413, "photo 0 is 101 x 100, over the limit of 10,000 pixels"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_refused(
    body: bytes, status: int, detail: str, server: EncoderServer, encoder: GatedEncoder
) -> None:
    answer = post(server, IMAGES, body)

    assert answer.status_code == status
    assert detail in answer.json()["detail"]
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert encoder.batches == []


def test_a_file_that_unpacks_to_gigabytes_is_only_bytes_here(server: EncoderServer) -> None:
    import io
    import zlib

    file = io.BytesIO()
    Image.new("RGB", (3000, 3000)).save(file, "PNG")
    assert post(server, IMAGES, file.getvalue()).status_code == 400, "nothing is decoded"
    body = zlib.compress(pack_photos(pictures(1)))
    assert post(server, IMAGES, body, **{"Content-Encoding": "deflate"}).status_code == 415, "nothing is unpacked"


@pytest.mark.parametrize("kind", ["text/plain", "image/png", "application/x-www-form-urlencoded", ""])
def test_other_kinds_of_bodies_are_refused(kind: str, server: EncoderServer) -> None:
    for path in (IMAGES, TEXTS, WORDS):
        assert post(server, path, b"{}", kind).status_code == 415


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "the body is not JSON"),
        (b"\xff", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"[]", "with 1 to 8 texts"),
        (b'{"texts": []}', "with 1 to 8 texts"),
        (b'{"texts": "red"}', "with 1 to 8 texts"),
        (json.dumps({"texts": ["a"] * 9}).encode(), "with 1 to 8 texts"),
        (b'{"texts": ["a", NaN]}', "text 1 is no text"),
        (b'{"texts": ["a", "\\ud800"]}', "text 1 holds half of a sign"),
        (json.dumps({"texts": ["a" * 2001]}).encode(), "text 0 is no text of at most 2,000 characters"),
    ],
)
def test_texts_that_are_none_are_refused(body: bytes, detail: str, server: EncoderServer) -> None:
    for path in (TEXTS, WORDS):
        answer = post(server, path, body, "application/json")
        assert (answer.status_code, detail in answer.json()["detail"]) == (400, True)


def request(path: str, body: bytes, **headers: str) -> bytes:
    named = {"Host": "localhost", "Content-Type": BINARY, "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {text}\r\n" for name, text in named.items() if text)
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def raw(server: EncoderServer, data: bytes) -> socket.socket:
    parts = urlsplit(server.url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=10)
    connection.sendall(data)
    return connection


def status(connection: socket.socket) -> int:
    with connection:
        answer = connection.recv(4096)
        return int(answer.split()[1]) if answer else 0


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_body_over_the_limit_is_refused_before_it_is_read(server: EncoderServer) -> None:
    head = request(IMAGES, b"", **{"Content-Length": str(16_001_001)})

    assert status(raw(server, head)) == 413


def test_who_sends_much_reads_the_refusal_all_the_same(encoder: GatedEncoder) -> None:
    body = bytes(12_000_000)
    with served(encoder, TOKEN) as server:
        for _ in range(3):
            assert post(server, IMAGES, body).status_code == 401
            assert post(server, IMAGES, body, "text/plain", Authorization=f"Bearer {TOKEN}").status_code == 415


def test_a_body_must_say_how_long_it_is(server: EncoderServer) -> None:
    chunked = request(IMAGES, b"4\r\nabcd\r\n0\r\n\r\n", **{"Content-Length": "", "Transfer-Encoding": "chunked"})

    assert status(raw(server, chunked)) == 411


def test_clients_that_dawdle_hold_nobody_up(server: EncoderServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_factory.http_server.REQUEST_SECONDS", 0.3)
    headers_only = raw(server, b"POST /v1/embed/images HTTP/1.1\r\nHost: localhost\r\n")
    half = raw(server, request(IMAGES, b"1234", **{"Content-Length": "1000"}))

    assert ask(server, pictures(2)).status_code == 200
    assert status(half) == 408
    assert status(headers_only) == 0
    wait_for(lambda: metric(metrics(server), "factory_encoder_held_bytes") == 0)


def test_a_body_that_trickles_in_runs_out_of_time(server: EncoderServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_factory.http_server.REQUEST_SECONDS", 0.3)
    connection = raw(server, request(IMAGES, b"", **{"Content-Length": "1000"}))
    start = time.monotonic()
    connection.settimeout(0.05)
    while time.monotonic() - start < 10:
        connection.sendall(b"x")
        try:
            answer = connection.recv(4096)
            break
        except TimeoutError:
            continue

    assert answer.split()[1] == b"408"
    connection.close()


# An encoder that fails


def test_a_photo_that_the_encoder_cannot_bear_fails_nobody_elses() -> None:
    class Delicate(GatedEncoder):
        def embed_images(self, images: list[Image.Image]) -> np.ndarray:
            vectors = super().embed_images(images)
            if any(image.size == (1, 1) for image in images):
                raise RuntimeError("too small")
            return vectors

    encoder = Delicate()
    with served(encoder) as server, ThreadPoolExecutor(3) as pool:
        encoder.gate.clear()
        first = pool.submit(ask, server, pictures(1))
        assert encoder.entered.acquire(timeout=10)
        bad = pool.submit(ask, server, [Image.new("RGB", (1, 1), "red")])
        good = pool.submit(ask, server, pictures(2, seed=1))
        wait_for(lambda: metric(metrics(server), "factory_encoder_waiting_photos") == 4)
        encoder.gate.set()

        assert bad.result().status_code == 500
        assert bad.result().json()["detail"] == "RuntimeError: too small"
        assert (first.result().status_code, good.result().status_code) == (200, 200)
        assert ask(server, pictures(1, seed=3)).status_code == 200, "it goes on"


@pytest.mark.parametrize("vectors", [np.ones((1, 3)), np.full((1, 4), np.nan), np.ones((2, 4))])
def test_vectors_that_are_none_are_not_handed_on(vectors: np.ndarray) -> None:
    class Wrong(AxisEncoder):
        def embed_images(self, images: list[Image.Image]) -> np.ndarray:
            return vectors

        def embed_texts(self, texts: list[str]) -> np.ndarray:
            return vectors

    with served(Wrong("red", "green", "blue")) as server:
        assert ask(server, pictures(1)).status_code == 500
        assert post(server, TEXTS, b'{"texts": ["a"]}', "application/json").status_code == 500


# Who may ask


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer é"],
)
def test_without_the_token_nothing_is_answered(authorization: str, encoder: GatedEncoder) -> None:
    with served(encoder, TOKEN) as server:
        named = {"Authorization": authorization.encode()} if authorization else {}
        for path in ("/v1/encoder", "/metrics", "/nowhere"):
            answer = CLIENT.get(server.url + path, headers=named)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert encoder.key not in answer.text
            assert ("this is not its token" if authorization else "wants its token") in answer.json()["detail"]
        body = pack_photos(pictures(1))
        assert CLIENT.post(server.url + IMAGES, content=body, headers=named).status_code == 401
        assert encoder.batches == []


def test_with_the_token_all_is_answered_and_probes_need_none(encoder: GatedEncoder) -> None:
    with served(encoder, TOKEN) as server:
        named = {"Authorization": f"Bearer {TOKEN}"}
        assert CLIENT.get(f"{server.url}/v1/encoder", headers=named).json()["key"] == encoder.key
        assert post(server, IMAGES, pack_photos(pictures(1)), **named).status_code == 200
        for path in ("/healthz", "/readyz", "/openapi.json"):
            answer = CLIENT.get(server.url + path)
            assert answer.status_code == 200 and encoder.key not in answer.text


def test_the_token_is_compared_in_constant_time(encoder: GatedEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr("secrets.compare_digest", lambda a, b: compared.append((a, b)) or False)
    with served(encoder, TOKEN) as server:
        CLIENT.get(f"{server.url}/v1/encoder", headers={"Authorization": "Bearer other"})

    assert compared == [(b"other", TOKEN.encode())]


@pytest.mark.parametrize(
    "headers", [{"Host": "rebound.example"}, {"Host": "rebound.example:80"}, {"Origin": "http://localhost:3000"}]
)
def test_without_a_token_only_programs_of_this_machine_are_answered(
    headers: dict[str, str], server: EncoderServer
) -> None:
    assert CLIENT.get(f"{server.url}/v1/encoder", headers=headers).status_code == 403
    assert post(server, IMAGES, pack_photos(pictures(1)), **headers).status_code == 403


# Health and metrics


def test_metrics_name_no_paths_but_the_servers_own(server: EncoderServer) -> None:
    for path in ("/wp-admin.php", "/v1/embed/images/x"):
        assert CLIENT.get(server.url + path).status_code == 404
    assert CLIENT.get(server.url + IMAGES).status_code == 405
    text = metrics(server)

    assert metric(text, "factory_encoder_requests_total", path="other", code="404") == 2
    assert "wp-admin" not in text
    assert metric(text, "factory_encoder_info", key="axes-1", dim="4") == 1


def test_metrics_add_up(server: EncoderServer, encoder: GatedEncoder) -> None:
    for count in (3, 5):
        ask(server, pictures(count, seed=count))
    post(server, TEXTS, b'{"texts": ["a", "b"]}', "application/json")
    text = metrics(server)

    assert metric(text, "factory_encoder_photos_total") == sum(encoder.batches) == 8
    assert metric(text, "factory_encoder_batch_photos_sum") == 8
    assert metric(text, "factory_encoder_texts_total") == 2
    assert metric(text, "factory_encoder_requests_total", path=IMAGES, code="200") == 2
    assert metric(text, "factory_encoder_request_seconds_count", path=IMAGES) == 2
    assert 0 < metric(text, "factory_encoder_busy_seconds_total") < 30
    assert metric(text, "factory_encoder_waiting_photos") == 0


def test_a_server_that_ends_finishes_what_has_begun(encoder: GatedEncoder) -> None:
    encoder.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        with served(encoder) as server:
            begun = pool.submit(ask, server, pictures(12))
            assert encoder.entered.acquire(timeout=10)
            threading.Timer(0.5, encoder.gate.set).start()  # by then the server has been told to end
        assert begun.result().status_code == 200
    assert unpack_vectors(begun.result().content, 12, 4).shape == (12, 4)
    with pytest.raises(httpx2.ConnectError):
        CLIENT.get(f"{server.url}/healthz")
