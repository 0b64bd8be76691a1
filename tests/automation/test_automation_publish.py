"""Publishing from a workflow: what is checked before, what the release says of where it comes from."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import typer
from typer.testing import CliRunner

from automation import publish_release
from automation.command import application
from clip_factory import run_folder as files
from clip_factory.errors import FactoryError
from clip_factory.registry import make_pair, open_registry
from clip_factory.registry.release_reader import read_checked
from clip_factory.registry.trust import Trust
from clip_factory.run_folder import sha256_file
from clip_factory.runtime import Model
from clip_factory.runtime.atomic import write_json
from support.automation_run import NOT_PROVEN, PASSES, REFUSED, merged, seal, whole
from support.finished_run import said
from support.git import git

JOB = {
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "acme/models",
    "GITHUB_RUN_ID": "42",
    "GITHUB_RUN_ATTEMPT": "2",
    "GITHUB_ACTOR": "ada",
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_EVENT_NAME": "push",
    "GITHUB_WORKFLOW_REF": "acme/models/.github/workflows/new-prompt.yml@refs/heads/main",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    merged(whole(folder / "passed"), folder)
    whole(folder / "refused", kind=REFUSED)
    whole(folder / "short", kind=NOT_PROVEN)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The passed run, to be tampered with; the working folder is the repository."""
    for name in os.environ:
        if name.startswith("GITHUB_"):
            monkeypatch.delenv(name)
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    shutil.copytree(made / "datasets", tmp_path / "datasets")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".gitignore").write_text("artifact/\nregistry/\nkeys/\n")
    git(tmp_path, "init", "-q", "-b", "main")
    commit(tmp_path)
    return Path(shutil.copytree(next(made.glob("passed/datasets/*/2*/")), tmp_path / "artifact" / "run"))


def commit(root: Path) -> str:
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", "as it is now")
    return git(root, "rev-parse", "HEAD")


def first(root: Path) -> str:
    """The commit that was run."""
    return git(root, "rev-list", "--max-parents=0", "HEAD")


@pytest.fixture
def publish(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def call(folder: Path, alias: str = "champion", key: Path | None = None, allow: bool = False) -> dict[str, str]:
        capsys.readouterr()
        publish_release.main(folder, first(tmp_path), str(tmp_path / "registry"), alias, "", key, allow)
        return dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())

    return call


def refusal(publish: Callable, folder: Path, capsys: pytest.CaptureFixture[str], registry: Path, code: int = 1) -> str:
    with pytest.raises(typer.Exit) as left:
        publish(folder)
    assert left.value.exit_code == code
    assert not registry.exists()
    return " ".join(capsys.readouterr().err.split())


def test_a_run_is_published_with_its_provenance(run: Path, publish, tmp_path: Path) -> None:
    lines = publish(run.parent)
    registry = open_registry(str(tmp_path / "registry"))
    release = registry.index().models["red-ball"].versions[1]
    made = json.loads(read_checked(registry, release, "provenance.json"))

    sha256 = sha256_file(run / files.MODEL)
    assert lines == {"release": "red-ball@1", "name": "red-ball", "version": "1", "sha256": sha256, "new": "true"}
    assert registry.index().models["red-ball"].aliases == {"champion": 1}
    assert release.by == "ada (acme/models)"
    assert (made["_type"], made["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    subjects = {one["name"]: one["digest"]["sha256"] for one in made["subject"]}
    assert subjects == {name: e.sha256 for name, e in release.files.items() if name != "provenance.json"}
    definition, details = made["predicate"]["buildDefinition"], made["predicate"]["runDetails"]
    assert definition["resolvedDependencies"][0] == {
        "uri": "git+https://github.com/acme/models",
        "digest": {"gitCommit": first(tmp_path)},
    }
    inputs = {one["name"]: one["digest"]["sha256"] for one in definition["resolvedDependencies"][1:]}
    path = "datasets/red-ball/scenario.yaml"
    assert inputs == {
        path: sha256_file(tmp_path / path),
        files.LABELS: sha256_file(run / files.LABELS),
        files.IMAGES: sha256_file(run / files.IMAGES),
    }
    assert details["metadata"]["invocationId"] == "https://github.com/acme/models/actions/runs/42/attempts/2"
    assert details["builder"]["id"] == "https://github.com/" + JOB["GITHUB_WORKFLOW_REF"]
    assert Model.load("red-ball", registry=tmp_path / "registry").name == "red-ball"


def test_the_same_run_again_is_the_same_version(run: Path, publish, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(run)
    monkeypatch.setenv("GITHUB_RUN_ID", "43")

    assert publish(run)["new"] == "false"
    assert publish(run)["release"] == "red-ball@1"


def test_a_signature_covers_the_provenance(run: Path, publish, tmp_path: Path) -> None:
    private, public = make_pair(tmp_path / "keys")
    publish(run, key=private)
    registry = open_registry(str(tmp_path / "registry"))
    release = registry.index().models["red-ball"].versions[1]

    assert "provenance.json" in json.loads(release.canonical())["files"]
    assert Trust.read(public).check(registry, release)


def test_without_an_alias_none_is_moved(run: Path, publish, tmp_path: Path) -> None:
    publish(run, alias="")

    assert open_registry(str(tmp_path / "registry")).index().models["red-ball"].aliases == {}


def test_what_the_gate_refused_is_not_published(run: Path, made: Path, publish, capsys, tmp_path: Path) -> None:
    verdict = said(next(made.glob("refused/datasets/*/2*/gate.json")))["verdict"]

    assert refusal(publish, made / "refused", capsys, tmp_path / "registry") == (
        f"refused: red-ball: the gate refused it: {verdict['headline']}"
    )


def test_what_is_not_proven_is_published_only_where_that_is_allowed(
    run: Path, made: Path, publish, capsys, tmp_path: Path
) -> None:
    verdict = said(next(made.glob("short/datasets/*/2*/gate.json")))["verdict"]
    assert refusal(publish, made / "short", capsys, tmp_path / "registry", 4) == (
        f"not proven: red-ball: {verdict['headline']} "
        "commit people's answers or labels for it, or allow it: --allow-unproven"
    )

    assert publish(made / "short", allow=True)["release"] == "red-ball@1"
    registry = open_registry(str(tmp_path / "registry"))
    release = registry.index().models["red-ball"].versions[1]
    assert registry.index().models["red-ball"].aliases == {"champion": 1}
    assert release.state == "not proven"
    assert b"not proven.** ` ada (acme/models) ` allowed it." in read_checked(registry, release, "card.md")


def test_allowing_what_is_not_proven_allows_nothing_that_was_refused(
    run: Path, made: Path, publish, capsys, tmp_path: Path
) -> None:
    def allowing(folder: Path) -> dict[str, str]:
        return publish(folder, allow=True)

    assert refusal(allowing, made / "refused", capsys, tmp_path / "registry").startswith("refused: ")


@pytest.mark.parametrize(("said_so", "code"), [("true", 0), ("false", 4), ("", 4)])
def test_the_policy_comes_from_the_environment(
    run: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said_so: str, code: int
) -> None:
    """As the workflow passes it on; without it, nothing is published that is not proven."""
    monkeypatch.setenv("FACTORY_ALLOW_UNPROVEN", said_so)
    options = {"--run": made / "short", "--commit": first(tmp_path), "--registry": tmp_path / "registry"}
    words = [str(word) for option in options.items() for word in option]

    assert CliRunner().invoke(application("publish_release", publish_release.main), words).exit_code == code


def _gate(run: Path) -> None:
    gate = said(run / files.GATE)
    gate["clauses"][0]["figure"] = 0.999
    write_json(run / files.GATE, gate)
    seal(run)


def _other_scenario(old: str, new: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        path = run / files.SCENARIO
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        seal(run)

    return change


def _from_elsewhere(run: Path) -> None:
    manifest = said(run / files.MANIFEST)
    manifest["images_from"] = {"path": "/somewhere/else/images"}
    write_json(run / files.MANIFEST, manifest)


def _another_name(run: Path) -> None:
    """A model of another name, which the manifest bears out."""
    model = onnx.load(run / files.MODEL)
    for entry in model.metadata_props:
        entry.value = "forklift" if entry.key == "name" else entry.value
    onnx.save(model, run / files.MODEL)
    gate, size = said(run / files.GATE), (run / files.MODEL).stat().st_size
    next(clause for clause in gate["clauses"] if clause["name"] == "bytes")["figure"] = size
    write_json(run / files.GATE, gate)
    seal(run)
    write_json(run / files.MANIFEST, said(run / files.MANIFEST) | {"scenario": "forklift"})


DIFFERENT = (
    "refused: red-ball: the run has other values than the scenario: {} "
    "run it again: datasets/red-ball/scenario.yaml has changed since, or the run is of something else"
)
REFUSALS = {
    "a figure made better": (_gate, "refused: red-ball: Finds the yes photos: counted again, the verdict is “pass”"),
    "another phrase": (_other_scenario("- tomato", "- potato"), DIFFERENT.format("negative")),
    "a lower bar": (_other_scenario("agreement: 0.95", "agreement: 0.5"), DIFFERENT.format("gate")),
    "another target": (_other_scenario("target: break-even", "target: balanced"), DIFFERENT.format("target")),
    "another label source": (_other_scenario("refine: auto", "refine: none"), DIFFERENT.format("labels")),
    "another teacher": (_other_scenario("model: offline", "model: ViT-B-32"), DIFFERENT.format("teacher")),
    "a model of another name": (_another_name, "refused: red-ball: the model says ('forklift', "),
    "other photos": (_from_elsewhere, DIFFERENT.format("images")),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_run_of_something_else_is_refused(run: Path, publish, capsys, tmp_path: Path, what: str) -> None:
    tamper, message = REFUSALS[what]
    tamper(run)

    assert refusal(publish, run, capsys, tmp_path / "registry").startswith(message)


def test_a_scenario_that_changed_since_is_refused(run: Path, publish, capsys, tmp_path: Path) -> None:
    path = tmp_path / "datasets" / "red-ball" / "scenario.yaml"
    path.write_text(path.read_text().replace("- apple", "- pear"))

    assert "other values than the scenario: negative" in refusal(publish, run, capsys, tmp_path / "registry")


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ("", "datasets/red-ball/images/a.jpg"),
        ("", "datasets/red-ball/scenario.answers.jsonl"),
        ("gold: ../gold.csv\n", "datasets/gold.csv"),
        ("answers: '../../answers/*.jsonl'\n", "answers/*.jsonl"),
    ],
)
def test_photos_and_labels_that_changed_since_are_refused(
    run: Path, publish, capsys, tmp_path: Path, more: str, path: str
) -> None:
    scenario = tmp_path / "datasets" / "red-ball" / "scenario.yaml"
    scenario.write_text(scenario.read_text() + more)
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "--amend", "--allow-empty", "-m", "what was run")
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text("another content\n")
    commit(tmp_path)

    assert refusal(publish, run, capsys, tmp_path / "registry") == (
        f"refused: red-ball: changed since commit {first(tmp_path)[:12]}: '{path}' "
        "run it again: what it was made from is not what the branch has now"
    )


def test_what_others_changed_since_does_not_matter(run: Path, publish, tmp_path: Path) -> None:
    (tmp_path / "datasets" / "crane").mkdir()
    (tmp_path / "datasets" / "crane" / "a.jpg").write_bytes(b"x")
    (tmp_path / "README.md").write_text("words\n")
    commit(tmp_path)

    assert publish(run)["release"] == "red-ball@1"


def test_a_commit_that_git_does_not_have_is_an_error(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FactoryError, match="is no commit of the repository"):
        publish_release.main(run, "a" * 40, str(tmp_path / "registry"), "champion", "", None, False)


def test_an_older_run_again_does_not_take_the_champion_back(run: Path, publish, tmp_path: Path) -> None:
    newer = whole(tmp_path / "artifact" / "newer", kind=replace(PASSES, noise=0.2))
    publish(run)
    assert publish(newer)["release"] == "red-ball@2"

    assert (publish(run)["release"], publish(newer)["new"]) == ("red-ball@1", "false")
    assert open_registry(str(tmp_path / "registry")).index().models["red-ball"].aliases == {"champion": 2}


def test_an_alias_that_was_not_moved_is_moved_by_the_same_call(run: Path, publish, tmp_path: Path) -> None:
    publish(run, alias="")

    assert publish(run)["new"] == "false"
    assert open_registry(str(tmp_path / "registry")).index().models["red-ball"].aliases == {"champion": 1}


def test_auto_takes_whatever_teacher_was_found(run: Path, publish, tmp_path: Path) -> None:
    path = tmp_path / "datasets" / "red-ball" / "scenario.yaml"
    path.write_text(path.read_text().replace("model: offline", "model: auto"))

    assert publish(run)["release"] == "red-ball@1"


def _model_that_lies(run: Path) -> None:
    model = onnx.load(run / files.MODEL)
    model.graph.initializer[0].float_data[:] = [500.0]
    onnx.save(model, run / files.MODEL)
    gate, size = said(run / files.GATE), (run / files.MODEL).stat().st_size
    next(clause for clause in gate["clauses"] if clause["name"] == "bytes")["figure"] = size
    write_json(run / files.GATE, gate)
    seal(run)


ERRORS = {
    "a model that answers otherwise than when it was exported": (_model_that_lies, "answers differ by"),
    "a file more": (lambda run: (run / "run.sh").write_text("id"), "'run.sh' is no file of a run"),
    "a model exchanged since": (
        lambda run: (run / files.CARD).write_text("# another card\n"),
        "card.md is not what manifest.json says it was when the run ended",
    ),
    "a second run": (lambda run: shutil.copytree(run, run.with_name("run-2")), "2 runs, expected one"),
    "no run": (lambda run: shutil.rmtree(run), "0 runs, expected one"),
}


@pytest.mark.parametrize("what", ERRORS)
def test_what_is_no_whole_run_is_an_error(run: Path, publish, tmp_path: Path, what: str) -> None:
    tamper, message = ERRORS[what]
    tamper(run)

    with pytest.raises(FactoryError, match=message):
        publish(run.parent)
    assert not (tmp_path / "registry").exists()


def test_a_commit_is_a_hash(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FactoryError, match="expected 40 hex digits"):
        publish_release.main(run, "main", str(tmp_path / "registry"), "champion", "", None, False)


def test_a_url_must_be_the_very_one(run: Path, publish, capsys, tmp_path: Path) -> None:
    source = {"url": "https://example.org/a.zip", "sha256": "a" * 64}
    path = tmp_path / "datasets" / "red-ball" / "scenario.yaml"
    images = f"{{url: '{source['url']}', sha256: {source['sha256']}}}"
    path.write_text(path.read_text().replace("{path: images}", images))
    assert "scenario: images" in refusal(publish, run, capsys, tmp_path / "registry")
    manifest = said(run / files.MANIFEST)
    write_json(run / files.MANIFEST, manifest | {"images_from": source})

    assert publish(run)["release"] == "red-ball@1"
