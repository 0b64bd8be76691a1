"""`factory publish` and `factory models`: what they print, exit codes, back-ends that others add."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from clip_factory import loader_table
from clip_factory.cli.main import app
from clip_factory.cli.model_commands import app as models_app
from clip_factory.registry import open_registry
from support.finished_run import REFUSED, another, finished

runner = CliRunner()
VERBS = ("list", "show", "promote", "rollback", "pull", "verify", "diff", "keys")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Two runs that passed, of the same model; one that was refused."""
    folder = tmp_path_factory.mktemp("runs")
    first = finished(folder / "first")
    return first, another(first, folder / "second", threshold="0.5"), finished(folder / "third", REFUSED)


@pytest.fixture
def registry(tmp_path: Path, runs: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> str:
    place = str(tmp_path / "registry")
    monkeypatch.setenv("FACTORY_REGISTRY", place)
    monkeypatch.setenv("FACTORY_BY", "Ada")
    for run in runs[:2]:
        assert call("publish", run, "--alias", "champion").exit_code == 0
    return place


def call(*arguments: object) -> Result:
    return runner.invoke(app, [str(argument) for argument in arguments])


def lines(text: str) -> list[list[str]]:
    """The cells of a table, headings first."""
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    done = call("models", verb, "--help")

    assert done.exit_code == 0
    assert f"factory models {verb}" in done.output.split("Example:")[1]


def test_no_verb_is_left_out_of_these_tests() -> None:
    assert {command.name or command.callback.__name__ for command in models_app.registered_commands} == set(VERBS)


def test_publish_prints_the_release_last(registry: str, runs: tuple[Path, Path, Path]) -> None:
    again = call("publish", runs[0], "--alias", "champion", "--by", "Bob")

    assert (again.exit_code, again.stdout) == (0, "red-ball@1\n")
    already, moved = again.stderr.splitlines()
    assert already.startswith("red-ball@1 has these very bytes already, published 20")
    assert already.endswith(" by Ada")
    assert moved == "champion of red-ball: version 2 -> 1"
    assert call("publish", runs[0], "--alias", "champion").stderr.splitlines()[1] == (
        "champion of red-ball stands for version 1 already"
    )


def test_a_refused_run_exits_with_1(registry: str, runs: tuple[Path, Path, Path]) -> None:
    refused, forced = call("publish", runs[2]), call("publish", runs[2], "--force")

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == (
        f"refused: {runs[2]}: the gate refused this run (gold_accuracy)\n"
        "  publish it all the same: --force; its card will say so\n"
    )
    assert (forced.exit_code, forced.stdout) == (0, "red-ball@3\n")
    assert lines(call("models", "list").stdout)[1][5] == "REFUSED, forced"


def test_wrong_input_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    command = [sys.executable, "-m", "clip_factory", "models", "pull", "../x", "--registry", "registry"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'error: "../x" names no model\n  expected NAME, NAME@VERSION or NAME@ALIAS\n'
    assert list(tmp_path.rglob("*")) == [tmp_path / "registry"]


def test_list(registry: str) -> None:
    heading, row = lines(call("models", "list").stdout)
    (listed,) = map(json.loads, call("models", "list", "--format", "json").stdout.splitlines())

    assert heading == [
        "model",
        "aliases",
        "newest",
        "published",
        "kB",
        "gate",
        "question",
    ]
    assert row[:3] == ["red-ball", "champion 2", "2"]
    assert row[5:] == ["passed", "Is there a red ball?"]
    assert (listed["name"], listed["aliases"]) == ("red-ball", {"champion": 2})
    assert [release["version"] for release in listed["versions"]] == [1, 2]


def test_list_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    assert call("models", "list", "--registry", tmp_path / "empty").stdout == "no models yet\n"


def test_a_folder_that_is_not_there_is_no_empty_registry(tmp_path: Path) -> None:
    for words in (("list",), ("show", "red-ball"), ("rollback", "red-ball", "champion")):
        refused = call("models", *words, "--registry", tmp_path / "none")

        assert str(refused.exception) == (
            f"{tmp_path / 'none'}: there is no such folder\n  check --registry; factory publish makes one"
        )


@pytest.mark.parametrize(
    "words",
    [
        ("publish", "run"),
        *(
            ("models", *words.split())
            for words in ("list", "show a", "promote a b", "rollback a b", "pull a", "diff a b")
        ),
    ],
)
@pytest.mark.parametrize("environment", [None, ""])
def test_without_a_registry_the_error_says_how_to_name_one(
    words: tuple[str, ...], environment: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if environment is not None:
        monkeypatch.setenv("FACTORY_REGISTRY", environment)
    assert str(call(*words).exception) == "no registry was named\n  --registry FOLDER or URL, or set FACTORY_REGISTRY"
    assert str(call(*words, "--registry", "").exception).startswith("no registry was named")


def test_a_folder_of_other_things_is_no_empty_registry(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert call("models", "list", "--registry", tmp_path).stdout == "no models yet\n"
    (tmp_path / "photo.jpg").touch()
    for registry in (tmp_path, tmp_path.as_uri()):
        assert str(call("models", "list", "--registry", registry).exception) == (
            f"{tmp_path}: this folder holds other things, and no registry\n"
            "  check --registry; factory publish makes one"
        )
    for place in ("blobs", "models"):  # what the first publisher leaves that is killed
        (tmp_path / place).mkdir()
        assert call("models", "list", "--registry", tmp_path).stdout == "no models yet\n"
        (tmp_path / place).rmdir()


def test_list_of_one_model(registry: str, runs: tuple[Path, Path, Path]) -> None:
    call("publish", runs[2], "--force", "--by", "Bob")
    heading, *rows = lines(call("models", "list", "red-ball").stdout)

    assert heading == ["version", "aliases", "published", "by", "kB", "threshold", "gate"]
    assert [(row[0], row[-1]) for row in rows] == [("3", "REFUSED, forced"), ("2", "passed"), ("1", "passed")]
    assert (rows[0][2], rows[1][1], rows[1][5]) == ("Bob", "champion", "0.5")
    (listed,) = map(json.loads, call("models", "list", "red-ball", "--format", "json").stdout.splitlines())
    assert [release["version"] for release in listed["versions"]] == [1, 2, 3]
    assert str(call("models", "list", "ball").exception).startswith("no model ball in the registry")


def test_a_long_history_is_shown_from_its_end(registry: str) -> None:
    for version in (1, 2) * 12:
        call("models", "promote", f"red-ball@{version}", "champion")
    moves, last = lines(call("models", "show", "red-ball@1").stdout)[-21:-1], call("models", "show", "red-ball@1")

    assert moves[-1][1:] == ["champion", "1", "2", "promote", "Ada"]
    assert {move[4] for move in moves} == {"promote"}
    assert last.stdout.splitlines()[-1] == "and 6 moves before these: --format json has them all"
    tree = json.loads(call("models", "show", "red-ball@1", "--format", "json").stdout)
    assert len(tree["history"]) == 26


def test_show(registry: str) -> None:
    shown = call("models", "show", "red-ball@1").stdout
    tree = json.loads(call("models", "show", "red-ball@1", "--format", "json").stdout)

    assert lines(shown)[0] == ["model", "red-ball@1"]
    assert "aliases    none" in shown
    assert re.search(r"^agreement +>= 0.95 ", shown, re.MULTILINE)
    history = [line[1:] for line in lines(shown)[-2:]]
    assert history == [["champion", "1", "publish", "Ada"], ["champion", "1", "2", "publish", "Ada"]]
    assert (tree["version"], tree["aliases"], tree["gate"]["passed"]) == (1, [], True)
    assert [(move["from"], move["to"]) for move in tree["history"]] == [(None, 1), (1, 2)]


def test_promote_and_rollback(registry: str) -> None:
    up, back = call("models", "promote", "red-ball@1", "shadow"), call("models", "rollback", "red-ball", "champion")

    assert (up.stdout, up.stderr) == ("red-ball@1\n", "shadow of red-ball: version none -> 1\n")
    assert (back.stdout, back.stderr) == ("red-ball@1\n", "champion of red-ball: version 2 -> 1, passed\n")


def test_pull_and_verify(registry: str, tmp_path: Path) -> None:
    pulled = call("models", "pull", "red-ball", "--out", tmp_path)
    model = pulled.stdout.strip()

    assert model == f"{tmp_path}/red-ball-2/model.onnx"
    assert call("models", "verify", model).stdout == (
        "test vectors  answers differ by 0 at most from those stored in the file\n"
        "hashes        all 7 files of red-ball@2 are as published\n"
        "signature     not checked: no key was given, and the registry pins none\n"
        "ok            red-ball@2\n"
    )


def test_verify_without_a_registry(runs: tuple[Path, Path, Path]) -> None:
    assert call("models", "verify", runs[0] / "model.onnx").stdout == (
        "test vectors  answers differ by 0 at most from those stored in the file\nok            red-ball\n"
    )


def test_who_publishes_is_one_line(registry: str, runs: tuple[Path, Path, Path]) -> None:
    """It goes into records that are never changed: what could not be read again is refused before."""
    for words in (("publish", runs[2], "--force"), ("models", "promote", "red-ball@1", "shadow")):
        done = call(*words, "--by", "Ada\nEve")
        assert done.exit_code == 1
        assert str(done.exception).endswith('`by` is "Ada\\nEve", expected one line of at most 1000 characters')
    assert sorted(open_registry(registry).index().models["red-ball"].versions) == [1, 2]


def test_keys_sign_and_check(registry: str, runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    private, public = call("models", "keys", tmp_path / "keys").stdout.splitlines()

    assert call("publish", runs[0], "--key", private).stdout == "red-ball@3\n"
    done = call("models", "verify", "red-ball@3", "--public-key", public)
    assert "signature     of the expected key\n" in done.stdout
    assert "signature  checked" in call("models", "show", "red-ball@3", "--public-key", public).stdout


def test_diff(registry: str) -> None:
    said, _, changed = call("models", "diff", "red-ball@1", "red-ball@2").stdout.partition("\n\n")
    shown = lines(changed)
    first, *trees = [
        json.loads(line)
        for line in call("models", "diff", "red-ball@1", "red-ball@2", "--format", "json").stdout.splitlines()
    ]

    assert said.startswith("no difference outside chance: red-ball@2 finds as many of ")
    assert first["comparison"]["line"] == said
    assert shown[0] == ["what", "red-ball@1", "red-ball@2"]
    assert shown[1] == ["threshold", "0.43", "0.5"]
    assert {"what": "threshold", "before": 0.43, "after": 0.5} in trees
    same = call("models", "diff", "red-ball@1", "red-ball@1").stdout
    assert same.endswith("\n\nnothing that is compared differs\n")


def test_nothing_in_a_release_moves_the_terminal(registry: str, runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """A registry may hold what a stranger wrote."""
    from clip_factory.run_folder import RunFolder
    from support.finished_run import said, write_manifest

    hostile = another(runs[0], tmp_path / "hostile")
    gate = said(hostile / "gate.json")
    gate["clauses"][0]["rule"] = "\x1b[2J[red]>= 0"
    (hostile / "gate.json").write_text(json.dumps(gate), encoding="utf-8")
    write_manifest(RunFolder(hostile))
    call("publish", hostile)

    for words in (("show", "red-ball@3"), ("diff", "red-ball@2", "red-ball@3")):
        shown = call("models", *words).stdout
        assert "\x1b" not in shown
        assert "\N{REPLACEMENT CHARACTER}[2J[red]>= 0" in shown


def test_a_folder_needs_no_more_than_the_base_install(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    absent = (
        "torch",
        "pyarrow",
        "ruamel",
        "fsspec",
        "cryptography",
        "huggingface_hub",
        "mlflow",
        "sklearn",
    )
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({absent!r}))\n"
        "from clip_factory.cli.main import app\n"
        "def call(words):\n"
        "    app(words.split() + ['--registry', 'r'], standalone_mode=False)\n"
        f"app(['publish', {str(runs[0])!r}, '--to', 'r', '--alias', 'champion'], standalone_mode=False)\n"
        "for words in ('list', 'show red-ball', 'pull red-ball', 'verify red-ball-1/model.onnx'):\n"
        "    call(f'models {words}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "ok            red-ball@1"


def test_others_add_back_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By an entry point named like the scheme; the factory's own schemes stay its own."""
    (tmp_path / "tape_registry.py").write_text(
        "from clip_factory.registry.backends.folder_store import FolderStore\n"
        "from clip_factory.registry.backends.file_registry import FileRegistry\n"
        f"def wind(url):\n    return FileRegistry(url, FolderStore.open({str(tmp_path / 'tape')!r}))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    added = [EntryPoint(name, "tape_registry:wind", "clip_factory.registries") for name in ("tape", "https")]
    monkeypatch.setattr(loader_table, "entry_points", lambda group: added if group == "clip_factory.registries" else [])

    assert open_registry("tape://7").url == "tape://7"
    assert type(open_registry("https://example.org")).__name__ == "WebRegistry"
    assert call("models", "list", "--registry", "tape://7").stdout == "no models yet\n"
