"""The HTTP client of the registry's services: who gets the token, what is waited for, what is refused."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from clip_factory.errors import RegistryError
from clip_factory.registry.backends import rest_client
from clip_factory.registry.backends.rest_client import RestClient
from support.loopback import Loopback, Quiet, Request, Response, reply, self_signed, serving

TOKEN = "ghp_secret"


class Echo(Loopback):
    """Answers from `answers` by path, else with what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, Response] = {}

    def answer(self, request: Request) -> Response:
        echoed = {"method": request.method, "token": request.token, "body": request.body.decode()}
        return self.answers.get(request.path, reply({**echoed, "headers": request.headers}))


@pytest.fixture
def server() -> Iterator[Echo]:
    with Echo() as server:
        yield server


@pytest.fixture
def other() -> Iterator[Echo]:
    with Echo() as server:
        yield server


@pytest.fixture
def waited() -> list[float]:
    return []


@pytest.fixture
def client(server: Echo, waited: list[float]) -> RestClient:
    return RestClient(server.url, {"Accept": "application/json"}, TOKEN, sleep=waited.append)


def test_the_token_goes_to_the_service_alone(server: Echo, other: Echo, client: RestClient) -> None:
    assert client.request("GET", "/x").json["token"] == TOKEN
    assert client.request("GET", f"{server.url}/x").json["token"] == TOKEN
    with pytest.raises(RegistryError, match="which is another host"):
        client.request("GET", f"{other.url}/x")
    assert other.calls == [] and TOKEN not in repr(client)


def test_a_second_address_of_the_service_has_the_token_too(server: Echo, other: Echo) -> None:
    client = RestClient(server.url, {}, TOKEN, also=other.url)
    assert client.request("POST", f"{other.url}/x", b"data").json["token"] == TOKEN


@pytest.mark.parametrize("same_host", [True, False])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_followed_without_the_token(
    server: Echo, other: Echo, client: RestClient, status: int, same_host: bool
) -> None:
    target = server if same_host else other
    server.answers["/from"] = Response(status, headers={"Location": f"{target.url}/to"})
    assert client.request("GET", "/from").json["token"] is None
    assert target.calls[-1].headers["accept"] == "application/json"


def test_only_a_get_follows_a_redirect(server: Echo, other: Echo, client: RestClient) -> None:
    server.answers["/from"] = Response(307, headers={"Location": f"{other.url}/to"})
    for method in ("POST", "PATCH", "PUT", "DELETE"):
        assert client.request(method, "/from", {"secret": 1}).status == 307
    assert other.calls == []


def test_redirects_have_an_end_and_stay_with_http(server: Echo, client: RestClient, waited: list[float]) -> None:
    server.answers["/round"] = Response(302, headers={"Location": "/round"})
    with pytest.raises(RegistryError, match="more than 5 redirects"):
        client.request("GET", "/round")
    assert len(server.calls) == 6
    server.answers["/out"] = Response(302, headers={"Location": "ftp://127.0.0.1/x"})
    with pytest.raises(RegistryError, match="redirects from http to ftp"):
        client.request("GET", "/out")
    assert waited == []


def test_https_is_never_left() -> None:
    before = httpx2.Request("GET", "https://api.example.org/x")
    with pytest.raises(RegistryError, match="redirects from https to http"):
        rest_client._redirected(before, httpx2.Request("GET", "http://127.0.0.1/x"))


@pytest.mark.parametrize("base", ["http://example.org", "http://127.0.0.1.example.org", "ftp://127.0.0.1", "api"])
def test_the_token_travels_over_https_alone(base: str) -> None:
    with pytest.raises(RegistryError, match="in the clear"):
        RestClient(base, {}, TOKEN)


def test_more_bytes_than_expected_are_not_read(server: Echo, client: RestClient) -> None:
    server.answers["/large"] = Response(body=b"x" * 100)
    assert client.request("GET", "/large", max_bytes=100).body == b"x" * 100
    with pytest.raises(RegistryError, match="/large: more than the 99 bytes expected") as caught:
        client.request("GET", "/large?signature=abc", max_bytes=99)
    assert "abc" not in str(caught.value), "an address may hold the right to read"


def test_the_rest_of_a_large_answer_is_left_unread() -> None:
    """A server that never ends its answer costs no more than the limit, and no memory."""
    sent = 0

    class Endless(Quiet):
        def do_GET(self) -> None:  # noqa: N802
            nonlocal sent
            self.send_response(200)
            self.end_headers()
            try:
                while sent < 1 << 28:
                    sent += self.wfile.write(b"x" * (1 << 16))
            except OSError:
                pass
            done.set()

    done = threading.Event()
    with serving(Endless) as url:
        with pytest.raises(RegistryError, match="more than the 1,000 bytes expected"):
            RestClient(url, {}).request("GET", "/", max_bytes=1000)
        assert done.wait(10)
    assert sent < 1 << 26


def test_compression_is_neither_asked_for_nor_undone(server: Echo, client: RestClient) -> None:
    """A kilobyte could become a gigabyte."""
    assert client.request("GET", "/x").json["headers"]["accept-encoding"] == "identity"
    server.answers["/zip"] = Response(body=b"not gzip", headers={"Content-Encoding": "gzip"})
    assert client.request("GET", "/zip").body == b"not gzip"


@pytest.mark.parametrize(
    ("responses", "waits"),
    [
        ([Response(429, headers={"Retry-After": "7"}), Response(503), Response(502)], [7, 2, 4]),
        ([Response(403, headers={"Retry-After": "60"})], [60]),
        ([Response(403, headers={"X-RateLimit-Remaining": "0"})], [1]),
        ([Response(500, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})], [1]),
    ],
)
def test_a_busy_service_is_asked_again(
    server: Echo, client: RestClient, waited: list[float], responses: list[Response], waits: list[float]
) -> None:
    server.failures += responses
    answer = client.request("POST", "/x", {"a": 1})
    assert (answer.status, answer.json["body"], answer.json["method"]) == (200, '{"a": 1}', "POST")
    assert waited == waits


@pytest.mark.parametrize(
    "response",
    [
        Response(429, headers={"Retry-After": "61"}),
        Response(403),
        Response(403, headers={"X-RateLimit-Remaining": "12"}),
        Response(404),
        Response(422),
    ],
)
def test_what_time_does_not_change_is_final(
    server: Echo, client: RestClient, waited: list[float], response: Response
) -> None:
    server.failures.append(response)
    assert client.request("GET", "/x").status == response.status
    assert waited == [] and len(server.calls) == 1


def test_five_attempts_are_made(server: Echo, client: RestClient, waited: list[float]) -> None:
    server.failures += [Response(503)] * 6
    assert client.request("GET", "/x").status == 503
    assert (len(server.calls), waited) == (5, [1, 2, 4, 8])


def test_a_service_that_is_not_there(waited: list[float]) -> None:
    client = RestClient("http://127.0.0.1:9", {}, TOKEN, sleep=waited.append)
    with pytest.raises(RegistryError, match=r"^http://127\.0\.0\.1:9 cannot be reached \(.*refused") as caught:
        client.request("GET", "/x")
    assert "HTTPS_PROXY" in str(caught.value.hint) and waited == [1, 2, 4, 8]


def test_an_answer_that_is_cut_short_is_asked_for_again(waited: list[float]) -> None:
    class Cut(Quiet):
        def do_GET(self) -> None:  # noqa: N802
            whole = bool(waited)
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"whole" if whole else b"who")

    with serving(Cut) as url:
        assert RestClient(url, {}, sleep=waited.append).request("GET", "/").body == b"whole"
    assert waited == [1]


def test_a_silent_service_is_given_up(monkeypatch: pytest.MonkeyPatch, waited: list[float]) -> None:
    monkeypatch.setattr(rest_client, "TIMEOUT", 0.1)
    rest_client._client.cache_clear()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes the connection, and says nothing
        try:
            with pytest.raises(RegistryError, match="cannot be reached"):
                RestClient(f"http://127.0.0.1:{silent.getsockname()[1]}", {}, sleep=waited.append).request("GET", "/x")
        finally:
            rest_client._client.cache_clear()
    assert len(waited) == 4


def test_proxies_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, other: Echo) -> None:
    monkeypatch.setenv("http_proxy", other.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    rest_client._client.cache_clear()
    try:
        assert RestClient("http://localhost:9", {}).request("GET", "/x").status == 200
    finally:
        rest_client._client.cache_clear()
    assert len(other.calls) == 1


@pytest.mark.parametrize(
    ("variable", "value"), [("ALL_PROXY", "gopher://127.0.0.1"), ("SSL_CERT_FILE", "/nowhere/ca.pem")]
)
def test_settings_that_cannot_be_used_are_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    rest_client._client.cache_clear()
    try:
        with pytest.raises(RegistryError, match="no connection can be made") as caught:
            RestClient("http://127.0.0.1:9", {}).request("GET", "/x")
    finally:
        rest_client._client.cache_clear()
    assert variable in str(caught.value.hint)


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path, waited: list[float]) -> None:
    with (
        serving(Quiet, self_signed(tmp_path / "own.pem")) as url,
        pytest.raises(RegistryError, match=r"cannot be reached .*certificate"),
    ):
        RestClient(url, {}, TOKEN, sleep=waited.append).request("GET", "/")
