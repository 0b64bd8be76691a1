"""`factory encoders serve`: what it refuses, what it prints, and labels by way of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from clip_factory import pipeline
from clip_factory.cli.main import app
from clip_factory.errors import RunError
from clip_factory.labels import Labels
from clip_factory.run_folder import LABELS, SCENARIO, RunFolder
from clip_factory.scenario import Scenario, dump
from clip_factory.serve.encoder_server import prepare, read_token
from support.axis_encoder import AxisEncoder
from support.encoder_site import TOKEN, counted, served, settings, site, start


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "gpu.example"])
def test_a_host_that_others_reach_needs_a_token(host: str) -> None:
    result = CliRunner().invoke(app, ["encoders", "serve", "offline", "--host", host, "--port", "0"])

    assert isinstance(result.exception, RunError)
    assert "can be reached from other machines, and there is no token" in result.exception.what
    assert "FACTORY_ENCODER_TOKEN" in result.exception.hint


def test_with_a_token_it_listens_everywhere() -> None:
    made = prepare(lambda: AxisEncoder("red"), "0.0.0.0", 0, TOKEN, settings())
    with made.listener:
        assert made.listener.getsockname()[0] == "0.0.0.0"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.8.8.8"])
def test_loopback_needs_none(host: str) -> None:
    made = prepare(lambda: AxisEncoder("red"), host, 0, None, settings())
    with made.listener:
        assert made.url == f"http://{host}:{made.listener.getsockname()[1]}"


def test_a_port_that_is_taken_is_refused_before_an_encoder_is_loaded() -> None:
    with served(AxisEncoder("red")) as server:
        port = server.listener.getsockname()[1]
        with pytest.raises(RunError, match=f"port {port} cannot be used.*\n.*--port; 0 is any"):
            prepare(lambda: pytest.fail("loaded"), "127.0.0.1", port, None, settings())


def test_an_encoder_that_cannot_be_loaded_leaves_the_port_free() -> None:
    def load() -> AxisEncoder:
        raise RunError("no weights")

    with served(AxisEncoder("red")) as server:
        port = server.listener.getsockname()[1]
    with pytest.raises(RunError, match="no weights"):
        prepare(load, "127.0.0.1", port, None, settings())
    with prepare(lambda: AxisEncoder("red"), "127.0.0.1", port, None, settings()).listener:
        pass


def test_the_token_is_read_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")

    assert read_token(None) is None
    assert read_token(tmp_path / "token") == TOKEN
    monkeypatch.setenv("FACTORY_ENCODER_TOKEN", f"{TOKEN}-too")
    assert read_token(None) == f"{TOKEN}-too"
    assert read_token(tmp_path / "token") == TOKEN


@pytest.mark.parametrize("content", ["", "short", "two words that are long enough", "ümlaut" * 5, "x" * 501])
def test_a_file_without_a_token_is_refused_and_not_repeated(content: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match="a token has 16 to 500 letters, digits and signs") as caught:
        read_token(tmp_path / "token")
    assert not content or content not in str(caught.value)


def test_a_token_on_the_command_line_is_taken_for_a_file_and_refused() -> None:
    with pytest.raises(RunError, match="No such file") as caught:
        read_token(Path("s3cret-s3cret-s3cret"))
    assert "names a file that holds the token" in caught.value.hint


def test_help_has_examples_for_both_sides() -> None:
    text = CliRunner().invoke(app, ["encoders", "serve", "--help"]).output

    assert "factory encoders serve offline" in text and "--teacher http://127.0.0.1:8600" in text


def test_the_whole_command_answers_and_never_prints_the_token(tmp_path: Path) -> None:
    environment = {**site(tmp_path / "site"), "FACTORY_ENCODER_TOKEN": TOKEN}
    process, url = start(environment)
    try:
        assert httpx2.get(f"{url}/v1/encoder").status_code == 401
        named = {"Authorization": f"Bearer {TOKEN}"}
        assert httpx2.get(f"{url}/v1/encoder", headers=named).json()["name"] == "counting-1"
    finally:
        process.terminate()
        output, errors = process.communicate(timeout=30)
    assert TOKEN not in output + errors and "counting-1 is loaded; Ctrl-C ends" in errors


def labels(run: Path, shapes: Path, store: Path, teacher: str) -> Labels:
    values = {"name": "red", "positive": ["red thing"], "negative": ["green thing", "blue thing"]}
    rest = {"images": {"path": str(shapes / "photos")}, "teacher": {"model": teacher, "batch_size": 16}}
    run.mkdir()
    (run / SCENARIO).write_text(dump(Scenario.model_validate(values | rest)))
    pipeline.run(RunFolder(run), store, "label", go_on=True)
    return Labels.read(run / LABELS)


def test_labels_by_way_of_a_server_are_those_made_here(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = site(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("COUNTED", environment["COUNTED"])
    process, url = start(environment)
    try:
        there = labels(tmp_path / "there", shapes, tmp_path / "store", url)
        embedded = counted(environment)
        again = labels(tmp_path / "again", shapes, tmp_path / "store", "counting")
    finally:
        process.terminate()
        process.communicate(timeout=30)
    here = labels(tmp_path / "here", shapes, tmp_path / "other-store", "counting")

    for name in ("sha256", "p_teacher", "scores", "split", "weight"):
        assert getattr(there, name).tolist() == getattr(here, name).tolist() == getattr(again, name).tolist(), name
    assert there.metadata == here.metadata == again.metadata
    assert embedded == len(set(there.sha256.tolist())), "each photo once"
    assert counted(environment) == 2 * embedded, "the second run here has the server's vectors, the third its own"


@pytest.mark.slow
def test_the_offline_teacher_is_the_same_over_http(shapes: Path) -> None:
    import numpy as np

    from clip_factory.encoders import load_encoder
    from clip_factory.runtime.preprocessing import read_rgb
    from clip_factory.scenario import Teacher

    local = load_encoder(Teacher(model="offline"))
    photos = [read_rgb(path, min_side=local.image_size) for path in sorted((shapes / "photos").iterdir())[:12]]
    with served(local, pixels=1_000_000) as server:
        remote = load_encoder(Teacher(model=server.url))
        assert remote.key == local.key and remote.about == local.about
        vectors, texts = remote.embed_images(photos), remote.embed_texts(["a disc", "a bar"])
    assert np.abs(vectors - local.embed_images(photos)).max() < 1e-5
    assert np.abs(texts - local.embed_texts(["a disc", "a bar"])).max() < 1e-5


def test_without_its_packages_the_command_says_which_to_install(tmp_path: Path) -> None:
    for name in ("starlette", "prometheus_client", "httpx2"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}', name='{name}')\n")
        environment = site(tmp_path / f"site-{name}")
        environment["PYTHONPATH"] = f"{tmp_path}:{environment['PYTHONPATH']}"
        teacher = "http://127.0.0.1:9" if name == "httpx2" else "counting"
        command = [sys.executable, "-m", "clip_factory", "encoders", "serve", teacher, "--port", "0"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        (tmp_path / f"{name}.py").unlink()
        assert done.returncode == 2 and f"{name} is not installed" in done.stderr, done.stderr
        assert "pip install 'clip-factory[" in done.stderr
