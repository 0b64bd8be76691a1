"""Which scenarios run: read from git's objects, checked, and grouped by what they share."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from automation.changed_scenarios import find, main
from automation.git import Git
from clip_factory.errors import FactoryError, ScenarioError
from support.git import git

ZEROS = "0" * 40


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    write(root, "forklift", "images: {path: ../../photos}\n")
    write(root, "crane", "images: {path: ../../photos/}\nteacher: {model: offline}\n")
    commit(root, "first")
    return root


def write(root: Path, name: str, more: str = "images: {path: images}\n", said: str | None = None) -> Path:
    path = root / "datasets" / name / "scenario.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"name: {said or name}\npositive: [{name.replace('_', ' ')}]\n{more}", encoding="utf-8")
    return path


def commit(root: Path, message: str) -> str:
    git(root, "add", "-A")
    git(root, "commit", "-qm", message)
    return git(root, "rev-parse", "HEAD")


def names(root: Path, base: str | None, *wanted: str) -> list[str]:
    return [one.name for one in find(Git(root), "HEAD", base, list(wanted))]


def test_what_is_added_or_changed_counts_and_what_is_deleted_does_not(repository: Path) -> None:
    write(repository, "pallet")
    (repository / "datasets/forklift/gold.csv").write_text("path,label\n")
    (repository / "datasets/crane/scenario.yaml").unlink()
    (repository / "README.md").write_text("words\n")
    commit(repository, "second")

    assert names(repository, "HEAD~1") == ["forklift", "pallet"]
    assert names(repository, None) == ["forklift", "pallet"]
    assert names(repository, "HEAD") == []
    assert names(repository, "HEAD", "pallet") == ["pallet"]


@pytest.mark.parametrize(
    ("path", "counted"),
    [
        ("photos/deep/a.jpg", ["crane", "forklift"]),
        ("photos2/a.jpg", []),
        ("labels/gold.csv", ["door"]),
        ("labels/answers.jsonl", ["pallet"]),
        ("packed/photos.zip", ["pallet"]),
    ],
)
def test_photos_and_labels_outside_of_a_scenarios_folder_count(repository: Path, path: str, counted: list[str]) -> None:
    write(repository, "door", "images: {path: images}\ngold: ../../labels/gold.csv\n")
    write(repository, "pallet", "images: {path: ../../packed/photos.zip}\nanswers: ../../labels/answers.jsonl\n")
    write(repository, "broken", "images: [\n")
    commit(repository, "more")
    (repository / path).parent.mkdir(parents=True, exist_ok=True)
    (repository / path).write_bytes(b"x")
    commit(repository, "photos")

    assert names(repository, "HEAD~1") == counted


def test_a_branch_is_compared_with_where_it_left(repository: Path) -> None:
    git(repository, "checkout", "-q", "-b", "prompt/pallet")
    write(repository, "pallet")
    commit(repository, "pallet")
    git(repository, "checkout", "-q", "main")
    write(repository, "door")
    commit(repository, "door, on main meanwhile")

    assert [one.name for one in find(Git(repository), "prompt/pallet", "main", [])] == ["pallet"]


def test_the_working_tree_is_not_read(repository: Path) -> None:
    write(repository, "forklift", "images: {path: /etc}\n")

    assert names(repository, None) == ["crane", "forklift"]


def test_scenarios_on_the_same_photos_share_a_set_unless_their_teachers_differ(repository: Path) -> None:
    write(repository, "pallet", "images: {path: ../../photos/.}\n")
    write(repository, "door", "images: {url: 'https://example.org/a.zip', sha256: " + "a" * 64 + "}\n")
    write(repository, "gate", "images: {url: 'https://example.com/b.zip', sha256: " + "a" * 64 + "}\n")
    commit(repository, "more")
    own = {one.name: one for one in find(Git(repository), "HEAD", None, [])}
    forced = {one.name: one for one in find(Git(repository), "HEAD", None, [], "ViT-B-32/laion2b")}

    assert own["forklift"].set == own["pallet"].set != own["crane"].set
    assert own["door"].set == own["gate"].set
    assert forced["forklift"].set == forced["crane"].set != own["forklift"].set
    assert (own["crane"].teacher, forced["crane"].teacher) == ("offline", "ViT-B-32-laion2b")


@pytest.mark.parametrize(
    ("more", "said", "fault"),
    [
        ("images: {path: ../../../photos}\n", None, "images.path: '../../../photos' leaves the repository"),
        ("images: {path: /etc}\n", None, "images.path: '/etc' leaves the repository"),
        ("images: {path: ~/photos}\n", None, "images.path: '~/photos' leaves the repository"),
        ("images: {path: ../../.git}\n", None, "images.path: '../../.git' leaves the repository"),
        ("images: {path: 'C:\\photos'}\n", None, "images.path: 'C:\\\\photos' leaves the repository"),
        ("gold: ../../../gold.csv\nimages: {path: images}\n", None, "gold: '../../../gold.csv' leaves the repository"),
        ("answers: /tmp/a.jsonl\nimages: {path: images}\n", None, "answers: '/tmp/a.jsonl' leaves the repository"),
        ("", None, "images: says of no photos: give a path in the repository, or a url with its sha256"),
        (
            "images: {url: 'file:///etc/passwd', sha256: " + "a" * 64 + "}\n",
            None,
            "images.url: 'file:///etc/passwd' must begin with https://",
        ),
        (
            "images: {url: 'HTTPS://example.org/a.zip', sha256: " + "a" * 64 + "}\n",
            None,
            "images.url: 'HTTPS://example.org/a.zip' must begin with https://",
        ),
        (
            "images: {url: 's3://photos/a.zip', sha256: " + "a" * 64 + "}\n",
            None,
            "images.url: 's3://photos/a.zip' must begin with https://",
        ),
        ("images: {path: ../..}\n", None, "images.path: '../..' is the whole repository: name a folder in it"),
        (
            "images: {url: 'https://ada:secret@example.org/a.zip', sha256: " + "a" * 64 + "}\n",
            None,
            "images.url: 'https://ada:secret@example.org/a.zip' holds a user, or signs that an address may not have, "
            "or is too long",
        ),
        (
            "images: {path: images}\nteacher: {model: 'local-dir:/opt/clip'}\n",
            None,
            "teacher.model: a folder of this machine; name a model of open_clip or of the hub",
        ),
        (
            "images: {path: images}\nteacher: {model: 'onnx:/opt/clip'}\n",
            None,
            "teacher.model: a folder of this machine; name a model of open_clip or of the hub",
        ),
        (
            "images: {path: images}\nlabels: {source: vqa, model: 'local-dir:/opt/vqa'}\n",
            None,
            "labels.model: a folder of this machine; name a model of the hub",
        ),
        (
            "images: {path: images}\n"
            "labels: {sources: [{source: zero-shot}, {source: vqa, model: 'local-dir:/opt/vqa'}]}\n",
            None,
            "labels.sources.1.model: a folder of this machine; name a model of the hub",
        ),
        (
            "images: {path: images}\n",
            "door",
            "name: the scenario door belongs in datasets/door/, not in datasets/pallet/",
        ),
    ],
)
def test_what_may_not_run_on_our_machine(repository: Path, more: str, said: str | None, fault: str) -> None:
    write(repository, "pallet", more, said)
    commit(repository, "hostile")

    with pytest.raises(ScenarioError) as caught:
        names(repository, "HEAD~1")
    assert caught.value.what == f"datasets/pallet/scenario.yaml: {fault}"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("name: &a pallet\npositive: [*a]\n", ":1: an anchor: write the value out"),
        ("name: pallet\npositive: [!!str pallet]\n", ":2: a tag: write the value out"),
        ("name: pallet\npositive: !!python/object/apply:os.system [echo]\n", ":2: a tag: write the value out"),
        ("name: pallet\npositive: [\n", ": not valid YAML: while parsing a flow node"),
        ("name: pallet\npositive: [a]\nshell: echo\n", ":3: shell: unknown key; known here: "),
    ],
)
def test_yaml_that_says_more_than_it_shows_is_refused(repository: Path, text: str, fault: str) -> None:
    write(repository, "pallet").write_text(text, encoding="utf-8")
    commit(repository, "hostile")

    with pytest.raises(ScenarioError) as caught:
        names(repository, "HEAD~1")
    assert caught.value.what.startswith(f"datasets/pallet/scenario.yaml{fault}")


def test_a_billion_laughs_are_refused_before_anything_is_made_of_them(repository: Path) -> None:
    lines = ["a0: &a0 [ha, ha]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    write(repository, "pallet").write_text("\n".join([*lines, "name: pallet", "positive: *a11", ""]))
    commit(repository, "hostile")

    with pytest.raises(ScenarioError, match="an anchor"):
        names(repository, "HEAD~1")


def test_a_link_and_a_large_file_are_no_scenarios(repository: Path) -> None:
    link = write(repository, "pallet")
    link.unlink()
    os.symlink("/etc/passwd", link)
    write(repository, "door").write_text("#" * 200_001)
    commit(repository, "hostile")

    with pytest.raises(ScenarioError) as caught:
        names(repository, "HEAD~1")
    assert caught.value.what.splitlines() == [
        "'datasets/door/scenario.yaml': no file of at most 200,000 bytes",
        "'datasets/pallet/scenario.yaml': no file of at most 200,000 bytes",
    ]


@pytest.mark.parametrize(
    "link", ["datasets/pallet/images", "datasets/pallet/images/sub/a.jpg", "photos", "photos/b.jpg"]
)
def test_photos_behind_a_link_are_not_ours(repository: Path, link: str) -> None:
    write(repository, "pallet", f"images: {{path: {'../../photos' if link.startswith('photos') else 'images'}}}\n")
    (repository / link).parent.mkdir(parents=True, exist_ok=True)
    os.symlink("/home", repository / link)
    os.symlink("elsewhere", repository / "datasets" / "unrelated")
    commit(repository, "hostile")

    with pytest.raises(ScenarioError) as caught:
        names(repository, "HEAD~1")
    whose = ("crane", "forklift", "pallet") if link.startswith("photos") else ("pallet",)
    assert caught.value.what.splitlines() == [
        f"datasets/{name}/scenario.yaml: images.path: '{link}' is a link, or a repository of its own" for name in whose
    ]


def test_answers_behind_a_link_are_not_ours_though_the_scenario_does_not_name_them(repository: Path) -> None:
    write(repository, "pallet")
    os.symlink("/etc/passwd", repository / "datasets/pallet/scenario.answers.jsonl")
    commit(repository, "hostile")

    with pytest.raises(ScenarioError, match=r"answers: '.*/scenario\.answers\.jsonl' is a link"):
        names(repository, "HEAD~1")


def test_every_fault_of_every_scenario_is_told(repository: Path) -> None:
    write(repository, "pallet", "images: {path: /a}\ngold: /b.csv\n")
    write(repository, "door", "images: {path: images}\nseed: 1\n")
    commit(repository, "hostile")

    with pytest.raises(ScenarioError) as caught:
        names(repository, "HEAD~1")
    assert [line.split(": ")[1] for line in caught.value.what.splitlines()] == ["seed", "images.path", "gold"]


@pytest.mark.parametrize("ref", ["--upload-pack=touch x", "no-such-branch", "HEAD\nHEAD", ""])
def test_a_reference_is_no_option(repository: Path, ref: str) -> None:
    with pytest.raises(FactoryError, match="is no commit of the repository"):
        Git(repository).commit(ref)
    assert not (repository / "x").exists()


def outputs(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_the_lines_for_github_output(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(repository, "pallet", "images: {path: ../../photos}\n")
    drawn = write(repository, "demo")
    (drawn.parent / "__init__.py").write_text("")
    commit(repository, "more")
    main("HEAD", ZEROS, [""], False, "", repository)
    said = outputs(capsys.readouterr().out)

    scenarios, sets = json.loads(said["scenarios"]), json.loads(said["sets"])
    assert [one["name"] for one in scenarios] == ["crane", "forklift", "pallet"]
    assert set(scenarios[0]) == {"name", "path", "set", "teacher"}
    assert [one["path"] for one in sets] == ["datasets/crane/scenario.yaml", "datasets/forklift/scenario.yaml"]
    assert said["count"] == "3"


def test_twenty_scenarios_on_one_set_of_photos_are_one_set(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(20):
        write(repository, f"question-{number}", "images: {path: ../../photos}\n")
    commit(repository, "twenty")
    main("HEAD", "HEAD~1", None, False, "", repository)
    said = outputs(capsys.readouterr().out)

    assert (said["count"], len(json.loads(said["sets"]))) == ("20", 1)


def test_a_base_that_is_unknown_counts_as_none(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main("HEAD", "a" * 40, None, False, "", repository)

    assert outputs(capsys.readouterr().out)["count"] == "2"


def test_names_may_be_given_together(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(repository, "pallet")
    commit(repository, "more")
    main("HEAD", "", ["pallet, crane"], False, "offline", repository)

    assert [one["name"] for one in json.loads(outputs(capsys.readouterr().out)["scenarios"])] == ["crane", "pallet"]
    with pytest.raises(ScenarioError, match=r"no datasets/'\.\./etc'/scenario\.yaml in 'HEAD'"):
        main("HEAD", "", ["../etc"], False, "", repository)
