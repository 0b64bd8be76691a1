"""The review page's server: who may speak to it, what it writes down, what it keeps."""

from __future__ import annotations

import html
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clip_factory.errors import RunError
from clip_factory.label_sources.visual_evidence import Box, Mask, VisualEvidence, write_evidence
from clip_factory.report.evidence_overlay import tinted
from clip_factory.review import import_export, launch
from clip_factory.review import thumbnails as thumbs
from clip_factory.review.access import MAX_BODY
from clip_factory.review.session import Session
from clip_factory.review.thumbnails import Thumbnails
from clip_factory.run_folder import RunFolder
from support.review_page import served
from support.review_run import make_review


@dataclass
class Site:
    page: launch.Page
    run: Path
    store: Path
    sha256s: list[str]

    @property
    def host(self) -> str:
        return self.page.url.split("/")[2]

    @property
    def cookie(self) -> str:
        access = self.page.app.access
        return f"{access.cookie}={access.session}"

    @property
    def id(self) -> str:
        return self.get("/api/items")["about"]["id"]

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.host, timeout=60)
        sent = {"Cookie": self.cookie, "Origin": f"http://{self.host}"} | headers
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, content, {name: value for name, value in sent.items() if value})
        return connection.getresponse()

    def get(self, path: str) -> Any:
        return json.load(self.ask("GET", path))

    def answer(self, **fields: Any) -> int:
        known = {"sha256": self.sha256s[:1], "answer": "yes", "minutes": 0.5, "key": "key-" + os.urandom(6).hex()}
        return self.ask("POST", "/api/answer", known | {"run": self.id} | fields).status

    def written(self) -> dict[str, bytes]:
        """All files of the run and the store but the thumbnails, which are made ahead."""
        found = [path for root in (self.run.parent, self.store) for path in root.rglob("*") if path.is_file()]
        return {str(path): path.read_bytes() for path in found if "thumbs" not in path.parts}

    def session(self) -> Session:
        return Session.open(RunFolder.open(self.run), "check", self.store)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    run, store, truth = make_review(tmp_path_factory.mktemp("review"))
    with served(run.path, store) as page:
        yield Site(page, run.path, store, sorted(truth))


REFUSED: dict[str, tuple[str, str, dict[str, str], int, str]] = {
    "no token": ("GET", "/api/items", {"Cookie": ""}, 403, "no token"),
    "wrong token": ("GET", "/?token=abc", {"Cookie": ""}, 403, "no token"),
    "token of letters beyond ASCII": ("GET", "/?token=%C3%A9", {"Cookie": ""}, 403, "no token"),
    "wrong cookie": ("GET", "/thumb/x", {"Cookie": "factory-review=abc"}, 403, "no token"),
    "an answer without the token": ("POST", "/api/answer", {"Cookie": ""}, 403, "no token"),
    "a host by name": ("GET", "/", {"Host": "evil.example"}, 403, "another host"),
    "our port by another name": ("GET", "/api/items", {"Host": "evil.example:80"}, 403, "another host"),
    "another origin": ("POST", "/api/answer", {"Origin": "https://evil.example"}, 403, "another page"),
    "another port of this machine": ("POST", "/api/answer", {"Origin": "http://127.0.0.1:1"}, 403, "another page"),
    "no origin": ("POST", "/api/undo", {"Origin": ""}, 403, "another page"),
    "null origin": ("POST", "/api/undo", {"Origin": "null"}, 403, "another page"),
    "a picture held by another site": ("GET", "/", {"Origin": "", "Sec-Fetch-Site": "cross-site"}, 403, "another page"),
    "the photos held by another port": (
        "GET", "/api/items", {"Origin": "", "Sec-Fetch-Site": "same-site"}, 403, "another page",
    ),
    "a path upwards": ("GET", "/photo/../../../etc/passwd", {}, 404, "Not Found"),
    "a path upwards, encoded": ("GET", "/photo/%2e%2e%2f%2e%2e%2fetc%2fpasswd", {}, 404, "Not Found"),
    "a path upwards below static": ("GET", "/static/..%2fserver.py", {}, 404, "Not Found"),
    "a file of Python": ("GET", "/static/server.py", {}, 404, "no such file"),
    "a photo by name": ("GET", "/photo/0001.jpg", {}, 404, "no such photo"),
    "a photo of no run": ("GET", "/photo/" + "0" * 64, {}, 404, "no such photo"),
    "a method": ("DELETE", "/api/items", {}, 405, "Method Not Allowed"),
    "changes since never": ("GET", "/api/changes?after=-1", {}, 400, "must be a number"),
    "a body that is no JSON": ("POST", "/api/answer", {}, 400, "must be a JSON object"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_refused_logged_and_nothing_written(
    case: tuple[str, str, dict[str, str], int, str], site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    method, path, headers, status, why = case
    before = site.written()
    reply = site.ask(method, path, b"" if method == "POST" else None, **headers)
    text = reply.read().decode()
    logged = capsys.readouterr().err

    assert reply.status == status
    assert why in text
    assert re.fullmatch(rf"refused {status} {method} '.*': .*{re.escape(why)}.*\n", logged)
    assert site.page.app.access.token not in logged + text
    assert site.page.app.access.session not in logged + text
    assert "Set-Cookie" not in reply.headers
    assert site.written() == before


@pytest.mark.parametrize(
    "headers", [f"Content-Length: {100_000_000}", "Transfer-Encoding: chunked"], ids=["claimed", "in chunks"]
)
def test_a_body_of_100_mb_is_refused_before_it_is_read(
    headers: str, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    before = site.written()
    head = f"POST /api/answer HTTP/1.1\r\nHost: {site.host}\r\nOrigin: http://{site.host}\r\nCookie: {site.cookie}\r\n"
    with socket.create_connection(site.page.listener.getsockname(), timeout=60) as connection:
        connection.sendall(f"{head}{headers}\r\n\r\n".encode())
        if "chunked" in headers:
            piece = b" " * 100_000
            for _ in range(MAX_BODY // len(piece) + 1):
                connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        reply = connection.recv(100)

    assert reply.startswith(b"HTTP/1.1 413 ")
    assert "the body is over the limit of 1,000,000 bytes" in capsys.readouterr().err
    assert site.written() == before


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"sha256": []}, 400),
        ({"sha256": ["../x"]}, 400),
        ({"sha256": "all"}, 400),
        ({"sha256": [{}]}, 400),
        ({"answer": "maybe"}, 400),
        ({"answer": ["yes"]}, 400),
        ({"minutes": "many"}, 400),
        ({"minutes": float("nan")}, 400),
        ({"key": ""}, 400),
        ({"run": "another"}, 409),
    ],
)
def test_answers_that_make_no_sense_are_refused(fields: dict[str, Any], status: int, site: Site) -> None:
    before = site.written()

    assert site.answer(**fields) == status
    assert site.written() == before


def test_the_address_opens_the_page_and_gives_a_cookie(site: Site) -> None:
    reply = site.ask("GET", site.page.url.removeprefix(f"http://{site.host}"), Cookie="", Origin="")

    assert reply.status == 200
    assert b'role="grid"' in reply.read()
    assert re.fullmatch(r"factory-review-\d+=\S{43}; Path=/; HttpOnly; SameSite=Strict", reply.headers["Set-Cookie"])
    assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
    assert site.page.listener.getsockname()[0] == "127.0.0.1"


def test_an_answer_is_on_the_disk_and_seen_by_all_pages(site: Site) -> None:
    before = site.get("/api/items")
    photo = site.sha256s[3]
    status = site.answer(sha256=[photo], answer="no")
    after = site.get(f"/api/changes?after={before['version']}&run={site.id}")
    table = site.session().items().to_pydict()

    assert status == 200
    assert after["answers"] == {photo: ["no", "ann", False]}
    assert after["version"] > before["version"]
    assert after["counts"]["minutes"] == pytest.approx(before["counts"]["minutes"] + 0.5)
    assert table["answer"][table["sha256"].index(photo)] == "no"


def test_a_request_sent_again_is_not_done_again(site: Site) -> None:
    minutes = site.get("/api/items")["counts"]["minutes"]
    statuses = [site.answer(sha256=site.sha256s[4:5], key="the same key") for _ in range(2)]

    assert statuses == [200, 200]
    assert site.get("/api/items")["counts"]["minutes"] == pytest.approx(minutes + 0.5)


def test_undo_says_what_it_undid(site: Site) -> None:
    photo = site.sha256s[5]
    site.answer(sha256=[photo], answer="unsure")
    version = site.get("/api/items")["version"]
    reply = site.ask("POST", "/api/undo", {"key": "undo once", "run": site.id})

    assert json.load(reply) == {"undone": [photo]}
    assert site.get(f"/api/changes?after={version}&run={site.id}")["answers"] == {photo: [None, None, False]}


def test_a_page_from_before_a_restart_is_told_everything(site: Site) -> None:
    told = site.get(f"/api/changes?after=17&run={site.id}")["answers"]

    assert set(told) == set(site.sha256s)


def test_a_batch_to_ask(site: Site) -> None:
    batch = site.get("/api/ask?count=7")["sha256"]

    assert len(set(batch)) == 7
    assert set(batch) <= set(site.sha256s)


def test_a_batch_of_test_photos_alone(site: Site) -> None:
    columns = site.get("/api/items")["columns"]
    splits = dict(zip(columns["sha256"], columns["split"], strict=True))
    batch = site.get("/api/ask?count=7&prove=1")["sha256"]

    assert len(batch) == 7
    assert {splits[sha] for sha in batch} == {"test"}


def test_what_is_shown_so_far_comes_with_the_changes(tmp_path: Path) -> None:
    run, store, _ = make_review(tmp_path)
    with served(run.path, store) as page:
        site = Site(page, run.path, store, [])
        before = site.get("/api/items")
        asked = site.get("/api/ask?count=3&prove=1")["sha256"]
        site.answer(sha256=asked[:2])
        proof = site.get(f"/api/changes?after={before['version']}&run={site.id}")["proof"]

    assert before["threshold"] == 0.43
    assert before["about"]["run"] == str(run.path)
    assert before["proof"]["says"].startswith("Nothing is shown yet; about 140 more answers are needed. Only ")
    assert (proof["answered"], proof["waiting"]) == (2, 1)
    assert proof["says"].startswith("Shown so far: it finds ")


def test_the_page_holds_the_students_probability_as_it_is(site: Site) -> None:
    """Rounded, a photo at the threshold would change side."""
    columns = site.get("/api/items")["columns"]

    assert columns["student"] == site.session().items()["student"].to_pylist()


def test_the_address_says_where_a_review_begins(tmp_path: Path) -> None:
    run, store, _ = make_review(tmp_path)
    pages = [launch.prepare(run.path, store, "ann", prove=prove) for prove in (False, True)]
    for page in pages:
        page.listener.close()

    assert "#" not in pages[0].url
    assert pages[1].url.endswith("#prove")
    command = [
        sys.executable,
        "-m",
        "clip_factory",
        "review",
        str(run.path),
        "--store",
        str(store),
        "--no-browser",
        "--prove",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = process.stdout.readline()
        process.terminate()
    assert printed.endswith("#prove\n")


def test_thumbnails_come_many_at_once_in_the_order_asked_for(site: Site) -> None:
    names = site.sha256s[20:60:2]
    asked = [site.ask("POST", "/api/thumbs", {"sha256": one}).read().splitlines() for one in (names, names[::-1])]
    jpegs, again = [[b64decode(line) for line in lines] for lines in asked]

    assert len(set(jpegs)) == len(names)
    assert again == jpegs[::-1]
    assert {Image.open(io.BytesIO(jpeg)).format for jpeg in jpegs} == {"JPEG"}
    assert max(min(Image.open(io.BytesIO(jpeg)).size) for jpeg in jpegs) <= thumbs.SIDE


@pytest.mark.parametrize("names", [[], ["0" * 64], "all", ["../x"]])
def test_thumbnails_of_no_photo_are_refused(names: Any, site: Site) -> None:
    assert site.ask("POST", "/api/thumbs", {"sha256": names}).status == 400


def test_what_the_label_source_shows_comes_by_photo(tmp_path: Path) -> None:
    run, store, truth = make_review(tmp_path)
    names = sorted(truth)
    box = Box("red ball", 0.9, 0.1, 0.2, 0.3, 0.4)
    mask = Mask.of_pixels("red ball", np.eye(4, dtype=bool))
    shown = [VisualEvidence((box, replace(box, phrase="orange"))), VisualEvidence(mask=mask), VisualEvidence()]
    write_evidence(run, names[:3], shown)
    with served(run.path, store) as page:
        site = Site(page, run.path, store, names)
        items = site.get("/api/items")
        reply = json.load(site.ask("POST", "/api/evidence", {"sha256": names[:4]}))
        refused = site.ask("POST", "/api/evidence", {"sha256": ["0" * 64]}).status

    assert items["evidence"] is True and refused == 400
    assert list(reply) == names[:2], "nothing is sent of photos for which nothing is shown"
    assert reply[names[0]]["boxes"] == [asdict(box) | {"yes": True}, asdict(box) | {"phrase": "orange", "yes": False}]
    assert reply[names[1]] == {"boxes": [], "mask": b64encode(tinted(mask)).decode(), "says": "red ball 25.0%"}


def test_a_run_without_evidence_says_so(site: Site) -> None:
    assert site.get("/api/items")["evidence"] is False
    assert json.load(site.ask("POST", "/api/evidence", {"sha256": site.sha256s[:1]})) == {}


def test_a_photo_alone_is_a_jpeg_for_ever(site: Site) -> None:
    reply = site.ask("GET", f"/photo/{site.sha256s[0]}", Origin="")

    assert Image.open(io.BytesIO(reply.read())).format == "JPEG"
    assert "immutable" in reply.headers["Cache-Control"]
    assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_labels_that_learned_from_answers_are_told_and_sent(tmp_path: Path) -> None:
    run, store, truth = make_review(tmp_path)
    with served(run.path, store) as page:
        site = Site(page, run.path, store, sorted(truth))
        before = site.get("/api/items")
        splits = dict(zip(before["columns"]["sha256"], before["columns"]["split"], strict=True))
        few = [sha for sha in site.sha256s if splits[sha] == "train"]
        site.answer(sha256=few[:2], answer="yes")
        still = site.get(f"/api/changes?after=0&run={site.id}")
        for side, word in ((True, "no"), (False, "yes")):  # people mean the opposite of what the words say
            site.answer(sha256=[sha for sha in few[2:] if truth[sha] is side], answer=word)
        told = site.get(f"/api/changes?after=0&run={site.id}")
        fresh = site.get("/api/labels")
        after = site.get("/api/items")

    assert before["learned"] == still["learned"] < told["learned"] == fresh["learned"]
    assert fresh["columns"]["predicted"] != before["columns"]["predicted"]
    assert all(after["columns"][name] == values for name, values in fresh["columns"].items())


def test_an_import_beside_the_page_loses_nothing(tmp_path: Path) -> None:
    """The command takes 30 answers, twice, while the page gives 16 others one by one."""
    run, store, _ = make_review(tmp_path)
    with served(run.path, store) as page:
        site = Site(page, run.path, store, [])
        site.sha256s = site.get("/api/items")["columns"]["sha256"]
        session = site.session()
        theirs, ours = site.sha256s[:30], site.sha256s[60:76]
        rows = [f"{session.path_of(sha)},{'yes' if n % 2 else 'no'},bob" for n, sha in enumerate(theirs)]
        (tmp_path / "in.csv").write_text("\n".join(["path,label,reviewer", *rows]), encoding="utf-8")
        command = [sys.executable, "-m", "clip_factory", "review", str(run.path), "--store", str(store)]
        taking = subprocess.Popen(
            [*command, "--import", str(tmp_path / "in.csv"), "--export", str(tmp_path / "out.csv")]
        )
        statuses = {site.answer(sha256=[sha], answer="unsure") for sha in ours[:8]}
        told = import_export.exchange_answers(run.path, store, "ann", tmp_path / "in.csv", None)
        statuses |= {site.answer(sha256=[sha], answer="no") for sha in ours[8:]}
        assert taking.wait(120) == 0
        seen = site.get("/api/items")["columns"]
        lines = [json.loads(line) for line in session.journal.path.read_text(encoding="utf-8").splitlines()]

    assert statuses == {200}
    assert re.fullmatch(r"(0|15|30) new answers from .*", told), "the other command may have been first"
    given = dict(zip(seen["sha256"], zip(seen["answer"], seen["by"], strict=True), strict=True))
    assert [given[sha] for sha in theirs] == [("yes" if n % 2 else "no", "bob") for n in range(30)]
    assert [given[sha] for sha in ours] == [("unsure", "ann")] * 8 + [("no", "ann")] * 8
    assert not any(seen["conflict"])
    assert sum(line["reviewer"] == "ann" for line in lines) == 16
    assert sum(row.endswith(",bob") for row in (tmp_path / "out.csv").read_text().splitlines()) == 30


def test_a_restart_keeps_the_port_and_the_browsers_that_were_admitted(tmp_path: Path) -> None:
    run, store, _ = make_review(tmp_path)
    with served(run.path, store) as first:
        elsewhere = launch.prepare(run.path, store, "ann")
        elsewhere.listener.close()
        with pytest.raises(RunError, match=rf"port {first.app.access.port} cannot be used: .*\n  name another"):
            launch.prepare(run.path, store, "bob", first.app.access.port)
    memory = next((store / "review").iterdir())
    again = launch.prepare(run.path, store, "ann", first.app.access.port)
    again.listener.close()

    assert (again.app.access.port, again.app.access.session) == (first.app.access.port, first.app.access.session)
    assert again.url != first.url, "the token is new"
    assert elsewhere.app.access.port != first.app.access.port
    assert [path.name for path in run.path.rglob("*") if first.app.access.session in path.read_text("latin-1")] == []
    if os.name == "posix":
        assert memory.stat().st_mode & 0o077 == 0


def test_ctrl_c_on_sight_of_the_address_ends_it_as_later(tmp_path: Path) -> None:
    run, store, _ = make_review(tmp_path)
    page = launch.prepare(run.path, store, "ann")
    seen: list[str] = []

    def announce(url: str) -> None:
        seen.append(url)
        signal.raise_signal(signal.SIGINT)

    page.serve(announce, browser=False)
    page.listener.close()

    assert seen == [page.url]


@pytest.mark.parametrize("line", range(1, 2400, 240))
def test_ctrl_c_at_any_line_of_the_start_ends_it_in_order(line: int, tmp_path: Path) -> None:
    run, store, _ = make_review(tmp_path)
    page = launch.prepare(run.path, store, "ann")
    passed = 0

    def count(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal passed
        passed += 1
        if passed == line:
            signal.raise_signal(signal.SIGINT)
        return count

    before = sys.gettrace()
    try:
        page.serve(lambda _: sys.settrace(count), browser=False)
    finally:
        sys.settrace(before)
        page.listener.close()

    assert passed > line, "it was still starting"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_token_admits_one_browser(site: Site) -> None:
    address = site.page.app.access.invite().partition(site.host)[2]
    first = site.ask("GET", address, Cookie="")
    assert (first.status, first.read()[:15]) == (200, b"<!doctype html>")
    cookie = first.headers["Set-Cookie"].partition(";")[0]
    assert cookie == site.cookie
    second = site.ask("GET", address, Cookie="")
    assert (second.status, b"one that was used" in second.read()) == (403, True)
    assert site.ask("GET", address, Cookie=cookie).status == 200, "who was admitted may load it again"


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:9", "[::1]:1234", "localhost"])
def test_the_page_works_through_a_tunnel_on_another_port(site: Site, host: str) -> None:
    assert site.ask("GET", "/api/items", Host=host, Origin=f"http://{host}").status == 200
    assert site.ask("GET", "/api/items", Host=host, Origin="http://evil.example").status == 403


@pytest.mark.parametrize(
    "host", ["127.0.0.1.evil.example:80", "localhost.evil.example", "127.0.0.1:80@evil", "", "[::2]:1"]
)
def test_no_other_host_is_taken_for_this_one(site: Site, host: str) -> None:
    reply = site.ask("GET", "/api/items", Host=host or " ")
    assert reply.status in (400, 403)


@pytest.mark.parametrize(
    "begun",
    [
        b"GET / HTTP/1.1\r\nHost: 127",
        b"",
        b"POST /api/answer HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nCookie: {cookie}\r\n"
        b"Content-Length: 99\r\n\r\n{",
        b"GET /api/items HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\nGET /api/it",
    ],
    ids=["half a head", "nothing", "half a body", "half a second request"],
)
def test_a_request_that_does_not_go_on_is_hung_up(site: Site, begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_factory.http_server.REQUEST_SECONDS", 0.3)
    host, port = site.host.split(":")
    for name, value in (("host", site.host), ("cookie", site.cookie)):
        begun = begun.replace(b"{%s}" % name.encode(), value.encode())
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(begun)
        while connection.recv(1 << 16):
            pass


def test_no_list_of_processes_shows_the_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(launch, "LANDING_SECONDS", 0.05)
    url = "http://127.0.0.1:9/?token=secret&x=1#prove"
    launch._open_in_browser(url)
    (folder,) = tmp_path.iterdir()
    landing = folder / "open.html"
    assert opened == [landing.as_uri()]
    assert "secret" not in opened[0]
    assert html.unescape(landing.read_text()).count(f'url={url}"') == 1
    assert folder.stat().st_mode & 0o077 == 0
    time.sleep(0.5)
    assert not folder.exists()


def test_another_reviewer_has_another_token(tmp_path: Path) -> None:
    run, store, _ = make_review(tmp_path)
    pages = [launch.prepare(run.path, store, name) for name in ("ann", "bob")]
    for page in pages:
        page.listener.close()

    assert pages[0].app.access.token != pages[1].app.access.token
    assert pages[0].app.access.session != pages[1].app.access.session


async def ask_thumb(one: Thumbnails, name: str) -> bytes | None:
    try:
        return await one.thumb(name)
    finally:
        one.close()


class TestThumbnails:
    @pytest.fixture
    def photo(self, tmp_path: Path) -> tuple[Path, str]:
        path = tmp_path / "photos" / "a.jpg"
        path.parent.mkdir()
        Image.new("RGB", (900, 600), (200, 30, 30)).save(path)
        return path, launch.files.sha256_file(path)

    def made(self, tmp_path: Path, path: str, sha256: str) -> bytes | None:
        import asyncio

        return asyncio.run(ask_thumb(Thumbnails(tmp_path / "photos", {sha256: path}, tmp_path / "cache"), sha256))

    def test_made_once_and_kept_on_disk(self, tmp_path: Path, photo: tuple[Path, str]) -> None:
        first = self.made(tmp_path, "a.jpg", photo[1])
        photo[0].unlink()

        assert first is not None
        assert Image.open(io.BytesIO(first)).size == (336, 224)
        assert self.made(tmp_path, "a.jpg", photo[1]) == first

    def test_one_cut_short_on_disk_is_made_anew(self, tmp_path: Path, photo: tuple[Path, str]) -> None:
        whole = self.made(tmp_path, "a.jpg", photo[1])
        kept = next((tmp_path / "cache").rglob("*.jpg"))
        kept.write_bytes(kept.read_bytes()[:100])

        assert self.made(tmp_path, "a.jpg", photo[1]) == whole

    def test_a_photo_that_was_replaced_is_not_shown_as_the_old_one(
        self, tmp_path: Path, photo: tuple[Path, str]
    ) -> None:
        Image.new("RGB", (900, 600)).save(photo[0])

        assert self.made(tmp_path, "a.jpg", photo[1]) is None

    @pytest.mark.parametrize("path", ["../secret.jpg", "/secret.jpg", "b/../../secret.jpg", "a\0.jpg"])
    def test_a_path_in_the_table_that_leaves_the_folder_is_not_followed(
        self, path: str, tmp_path: Path, photo: tuple[Path, str]
    ) -> None:
        photo[0].rename(tmp_path / "secret.jpg")

        assert self.made(tmp_path, path, photo[1]) is None

    def test_memory_is_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(thumbs, "MEMORY", 1000)
        one = Thumbnails(tmp_path, {}, tmp_path)
        for number in range(50):
            one._remember(str(number), bytes(300))
        one.close()

        assert list(one._memory) == ["47", "48", "49"]
