"""Publishing, aliases, pulling, checking: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from automation import champion
from clip_factory import registry as registry_room
from clip_factory.errors import ModelError, RegistryError, RunError
from clip_factory.progress import console
from clip_factory.registry import (
    GateRefusedError,
    PublishOptions,
    RegistryNotFoundError,
    Signer,
    Trust,
    compare,
    make_pair,
    open_existing,
    open_registry,
    promote,
    publish,
    pull,
    read_details,
    rollback,
    verify,
    verify_release,
)
from clip_factory.registry.backends.file_registry import FileRegistry
from clip_factory.registry.draft_from_run import FORCED, RELEASED, RELEASED_TOO, draft_from_run
from clip_factory.run_folder import FILES, RunFolder
from clip_factory.runtime import Model
from clip_factory.runtime.runtime_errors import FactoryError
from support.finished_run import REFUSED, another, finished, said
from support.loopback import files_of, serving

ADA = PublishOptions(by="Ada")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that passed its gate; not to be changed."""
    return finished(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def second(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with another threshold and another teacher."""
    teacher = json.dumps({"name": "ViT-B-32-256", "key": "vit", "license": "MIT"})
    return another(run, tmp_path_factory.mktemp("second") / "run", threshold="0.5", teacher=teacher)


@pytest.fixture(scope="session")
def refused_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("refused"), REFUSED)


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """The run, to be changed."""
    return Path(shutil.copytree(run, tmp_path / "run"))


@pytest.fixture
def registry(tmp_path: Path) -> FileRegistry:
    opened = open_registry(str(tmp_path / "registry"))
    assert isinstance(opened, FileRegistry)
    return opened


@pytest.fixture
def two(registry: FileRegistry, run: Path, second: Path) -> FileRegistry:
    """Version 1, then version 2 as champion."""
    publish(run, registry, "champion", ADA)
    publish(second, registry, "champion", ADA)
    return registry


@pytest.fixture(scope="session")
def key_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        make_pair(folder / name)
    return folder


@pytest.fixture(scope="session")
def signer(key_folder: Path) -> Signer:
    return Signer.read(key_folder / "ours" / "private.pem")


def message(call: Callable[[], object], kind: type[FactoryError] = RegistryError) -> str:
    """The whole message with which a call is refused."""
    with pytest.raises(kind) as refused:
        call()
    return str(refused.value)


# publishing


def test_a_release_holds_the_run_and_says_what_it_answers(registry: FileRegistry, run: Path) -> None:
    done = publish(run, registry, "champion", ADA)
    release = done.release

    assert (str(release), done.new, release.by) == ("red-ball@1", True, "Ada")
    assert (release.question, release.threshold, release.classes) == ("Is there a red ball?", 0.43, ("no", "yes"))
    assert (release.passed, release.forced, release.signature) == (True, False, None)
    assert list(release.files) == [*RELEASED, *RELEASED_TOO]
    for name in RELEASED:
        assert registry.read(release, name) == (run / name).read_bytes()
    assert registry.written_index() == registry.index()
    assert said(Path(registry.url) / "index.json")["models"]["red-ball"]["aliases"] == {"champion": 1}


def test_the_same_bytes_are_no_new_version(two: FileRegistry, run: Path) -> None:
    done = publish(run, two, options=PublishOptions(by="Bob"))

    assert (done.release.version, done.release.by, done.new, done.move) == (1, "Ada", False, None)
    assert list(two.index().models["red-ball"].versions) == [1, 2]


def test_publishing_again_moves_the_alias_where_it_was_not_moved(registry: FileRegistry, run: Path) -> None:
    publish(run, registry, options=ADA)
    done = publish(run, registry, "champion", ADA)

    assert done.move is not None
    assert (done.new, done.move.before, done.move.after, done.move.why) == (False, None, 1, "publish")
    assert publish(run, registry, "champion", ADA).move is None


def test_a_refused_run_is_published_by_force_alone_and_says_so(registry: FileRegistry, refused_run: Path) -> None:
    assert message(lambda: publish(refused_run, registry), GateRefusedError) == (
        f"{refused_run}: the gate refused this run (gold_accuracy)\n"
        "  publish it all the same: --force; its card will say so"
    )
    assert not Path(registry.url).exists()

    release = publish(refused_run, registry, options=PublishOptions(force=True)).release
    assert (release.passed, release.forced) == (False, True)
    card = registry.read(release, "card.md").decode()
    front, _, body = (refused_run / "card.md").read_text(encoding="utf-8").partition("\n---\n\n")
    assert card == f"{front}\n---\n\n{FORCED}{body}"
    assert publish(refused_run, registry, options=PublishOptions(force=True)).release == release


def test_force_says_nothing_of_a_run_that_passed(registry: FileRegistry, run: Path) -> None:
    release = publish(run, registry, options=PublishOptions(force=True)).release

    assert (release.passed, release.forced) == (True, False)
    assert registry.read(release, "card.md") == (run / "card.md").read_bytes()


@pytest.mark.parametrize(
    "name", ["model.onnx", "card.md", "gate.json", "report.html", "scenario.yaml", "labels.parquet"]
)
def test_a_run_that_was_altered_is_refused(name: str, copy: Path, registry: FileRegistry) -> None:
    (copy / name).write_bytes((copy / name).read_bytes() + b" ")

    assert message(lambda: publish(copy, registry), RunError) == (
        f"{copy}: {name} is not what manifest.json says it was when the run ended: it was altered since\n"
        f"  finish the run again: factory run {copy}"
    )
    assert not Path(registry.url).exists()


def test_a_run_that_is_not_finished_is_refused(copy: Path, registry: FileRegistry) -> None:
    (copy / "manifest.json").unlink()

    assert message(lambda: publish(copy, registry), RunError) == (
        f"{copy} has no manifest.json\n  run first: factory run {copy}"
    )


def test_files_that_are_not_released_need_not_be_there(copy: Path, registry: FileRegistry) -> None:
    for name in ("images.parquet", "labels.parquet", "student.ckpt"):
        (copy / name).unlink()

    assert publish(copy, registry).release.version == 1


@pytest.mark.parametrize("manifest", ["[]", "{}", '{"files": []}', '{"files": "all"}'])
def test_a_manifest_that_names_no_files_is_refused(manifest: str, copy: Path, registry: FileRegistry) -> None:
    (copy / "manifest.json").write_text(manifest, encoding="utf-8")

    assert message(lambda: publish(copy, registry), RunError) == (
        f"{copy}: its manifest.json names no files\n  factory run {copy}"
    )


@pytest.mark.parametrize("gate", ["[]", "{}", '{"passed": "no", "clauses": []}', '{"passed": 1}'])
def test_a_gate_that_does_not_say_whether_the_run_passed(gate: str, copy: Path, registry: FileRegistry) -> None:
    """Written by hand, since the manifest knows what the gate wrote."""
    _rewrite(copy, {"gate.json": gate})

    for options in (ADA, PublishOptions(force=True)):
        assert message(lambda options=options: publish(copy, registry, options=options), RunError) == (
            f"{copy}/gate.json does not say whether the run passed\n  factory evaluate {copy}"
        )


@pytest.mark.parametrize(
    ("gate", "why"),
    [
        ({"passed": False}, "nothing shows that the student is right"),
        ({"passed": False, "clauses": {}}, "nothing shows that the student is right"),
        ({"passed": True, "clauses": [{"name": "bytes", "verdict": "fail"}]}, "bytes"),
    ],
)
def test_whatever_gate_json_says_a_clause_that_failed_refuses(
    gate: dict, why: str, copy: Path, registry: FileRegistry
) -> None:
    _rewrite(copy, {"gate.json": json.dumps(gate)})

    assert f"the gate refused this run ({why})" in message(lambda: publish(copy, registry), GateRefusedError)
    assert not publish(copy, registry, options=PublishOptions(force=True)).release.passed


def test_a_card_that_is_no_text_is_published_as_it_is(copy: Path, registry: FileRegistry) -> None:
    _rewrite(copy, {"gate.json": '{"passed": false}', "card.md": b"\xff\x00"})
    release = publish(copy, registry, options=PublishOptions(force=True)).release

    assert registry.read(release, "card.md") == FORCED.encode() + b"\xff\x00"


def test_a_file_that_is_no_model_is_named(copy: Path, registry: FileRegistry) -> None:
    _rewrite(copy, {"model.onnx": b"no model"})

    assert message(lambda: publish(copy, registry), ModelError).startswith(f"{copy}/model.onnx: not an ONNX file (")


def test_a_model_of_another_run_is_refused(run: Path, tmp_path: Path, registry: FileRegistry) -> None:
    other = another(run, tmp_path / "other", name="blue-ball")

    assert message(lambda: publish(other, registry), RunError) == (
        f"{other}: model.onnx is of 'blue-ball', the run of 'red-ball'\n  name the right run"
    )


def test_a_gate_that_the_model_contradicts_is_refused(run: Path, tmp_path: Path, registry: FileRegistry) -> None:
    other = another(run, tmp_path / "other", gate=json.dumps({"passed": False}))

    assert message(lambda: publish(other, registry), RunError) == (
        f"{other}: gate.json says passed, model.onnx says refused\n  factory evaluate {other}"
    )


@pytest.mark.parametrize("alias", ["3", "../x", "Champion", "chämpion", "a b", "", "x" * 101])
def test_what_is_no_alias_is_refused(alias: str, registry: FileRegistry, run: Path) -> None:
    expected = (
        f"{alias!a} cannot be an alias\n"
        "  small letters, digits and single dashes, and not a number: champion, for example"
    )
    assert message(lambda: publish(run, registry, alias)) == expected
    assert not Path(registry.url).exists()
    assert message(lambda: promote(registry, "red-ball@1", alias, "Ada")) == expected
    assert message(lambda: rollback(registry, "red-ball", alias, "Ada")) == expected


# aliases


def test_promotion_and_rollback_are_told_by_the_history(two: FileRegistry, refused_run: Path) -> None:
    publish(refused_run, two, options=PublishOptions(force=True))
    promote(two, "red-ball@3", "champion", "Bob", options=PublishOptions(force=True))
    promote(two, "red-ball@1", "shadow", "Bob")
    first = rollback(two, "red-ball", "champion", "Cyd")
    second = rollback(two, "red-ball", "champion", "Cyd")

    assert [(first.before, first.after), (second.before, second.after)] == [(3, 2), (2, 1)]
    assert [(m.alias, m.before, m.after, m.why, m.by) for m in two.history("red-ball")] == [
        ("champion", None, 1, "publish", "Ada"),
        ("champion", 1, 2, "publish", "Ada"),
        ("champion", 2, 3, "promote", "Bob"),
        ("shadow", None, 1, "promote", "Bob"),
        ("champion", 3, 2, "rollback", "Cyd"),
        ("champion", 2, 1, "rollback", "Cyd"),
    ]
    assert two.index().models["red-ball"].aliases == {"champion": 1, "shadow": 1}
    assert two.written_index() == two.index()
    assert message(lambda: rollback(two, "red-ball", "champion", "Cyd")) == (
        "red-ball: champion has stood for no version before 1\n"
        "  choose one: factory models promote red-ball@VERSION champion"
    )


def test_after_a_rollback_the_way_goes_on_from_there(two: FileRegistry, refused_run: Path) -> None:
    publish(refused_run, two, options=PublishOptions(force=True))
    rollback(two, "red-ball", "champion", "Ada")
    promote(two, "red-ball@3", "champion", "Ada", options=PublishOptions(force=True))

    assert rollback(two, "red-ball", "champion", "Ada").after == 1


def test_a_rollback_that_somebody_forestalled_changes_nothing(
    two: FileRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two people see the same bad champion: it must not go back by two."""
    index = FileRegistry.index

    def slow(self: FileRegistry):
        seen = index(self)
        monkeypatch.setattr(FileRegistry, "index", index)
        rollback(two, "red-ball", "champion", "Bob")
        return seen

    monkeypatch.setattr(FileRegistry, "index", slow)

    assert message(lambda: rollback(two, "red-ball", "champion", "Ada")) == (
        "red-ball: somebody else has just moved champion\n  look first: factory models show red-ball"
    )
    assert [move.by for move in two.history("red-ball")] == ["Ada", "Ada", "Bob"]


@pytest.mark.parametrize("name", ["red-ball@2", "red-ball@champion"])
def test_a_rollback_takes_a_model_and_no_version(name: str, two: FileRegistry) -> None:
    assert message(lambda: rollback(two, name, "champion", "Ada")) == (
        f"{name}: a rollback takes the model's name alone; the version is the one before\n"
        "  factory models rollback red-ball champion"
    )


def test_promoting_what_is_there_already_is_no_move(two: FileRegistry) -> None:
    assert promote(two, "red-ball@2", "champion", "Ada") is None
    assert len(two.history("red-ball")) == 2


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("red-ball@9", "red-ball has no version 9\n  versions: 1, 2"),
        ("red-ball@best", "red-ball has no alias best\n  aliases: champion"),
        ("ball", "no model ball in the registry\n  did you mean red-ball?  models: red-ball"),
        ("../red-ball", '"../red-ball" names no model\n  expected NAME, NAME@VERSION or NAME@ALIAS'),
        ("/etc/passwd", '"/etc/passwd" names no model\n  expected NAME, NAME@VERSION or NAME@ALIAS'),
        ("red-ball@../1", '"red-ball@../1" names no model\n  expected NAME, NAME@VERSION or NAME@ALIAS'),
        ("red\u2010ball", '"red\\u2010ball" names no model\n  expected NAME, NAME@VERSION or NAME@ALIAS'),
    ],
)
def test_references_that_lead_nowhere(reference: str, expected: str, two: FileRegistry, tmp_path: Path) -> None:
    out = tmp_path / "out"

    assert message(lambda: pull(two, reference, out)) == expected
    assert message(lambda: promote(two, reference, "champion", "Ada")) == expected
    assert message(lambda: read_details(two, reference)) == expected
    assert message(lambda: compare(two, "red-ball@1", reference)) == expected
    assert not out.exists()


# taking out


def test_pull_copies_the_release_and_its_record(two: FileRegistry, second: Path, tmp_path: Path) -> None:
    path = pull(two, "red-ball@champion", tmp_path / "out")

    assert path == tmp_path / "out" / "red-ball-2" / "model.onnx"
    assert {file.name for file in path.parent.iterdir()} == {*RELEASED, *RELEASED_TOO, "release.json"}
    assert path.read_bytes() == (second / "model.onnx").read_bytes()
    assert said(path.parent / "release.json") == read_details(two, "red-ball@2").release.to_json()
    assert pull(two, "red-ball@2", tmp_path / "out") == path


def test_pull_overwrites_nothing(two: FileRegistry, tmp_path: Path) -> None:
    path = pull(two, "red-ball", tmp_path)
    path.write_bytes(b"mine")

    assert message(lambda: pull(two, "red-ball", tmp_path)) == (
        f"{path.parent}: holds other files than red-ball@2\n  name another folder with --out"
    )
    assert path.read_bytes() == b"mine"


def test_what_is_in_the_way_of_a_pull_is_named(two: FileRegistry, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "red-ball-1").write_text("mine")
    (tmp_path / "red-ball-2").symlink_to(tmp_path / "nowhere")

    assert message(lambda: pull(two, "red-ball@1", tmp_path / "file")) == (
        f"{tmp_path}/file/red-ball-1: cannot be written (Not a directory)\n  check --out, its rights and the space left"
    )
    for version in (1, 2):
        assert message(lambda version=version: pull(two, f"red-ball@{version}", tmp_path)) == (
            f"{tmp_path}/red-ball-{version}: holds other files than red-ball@{version}\n"
            "  name another folder with --out"
        )
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "registry") == [
        "file",
        "red-ball-1",
        "red-ball-2",
    ]


def test_two_pulls_at_once_leave_one_folder(two: FileRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def late(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "rename", rename)
        pull(two, "red-ball", target.parent)
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)

    assert pull(two, "red-ball", tmp_path / "out").is_file()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["red-ball-2"]


def test_the_runtime_loads_what_was_published(two: FileRegistry) -> None:
    model = Model.load("red-ball@champion", registry=two.url)

    assert model.release == read_details(two, "red-ball@2").release


def test_verify_finds_the_release_of_a_file(two: FileRegistry, run: Path) -> None:
    checked = verify_release(two, str(run / "model.onnx"))

    assert (str(checked.release), checked.signed) == ("red-ball@1", False)
    assert checked.difference < 1e-6
    assert verify(run / "model.onnx").release is None


def test_verify_knows_files_of_elsewhere(two: FileRegistry, run: Path, tmp_path: Path) -> None:
    stranger = another(run, tmp_path / "other", threshold="0.9") / "model.onnx"
    sha256 = Model.load(stranger).sha256

    assert message(lambda: verify_release(two, str(stranger))) == (
        f"{stranger}: no release of {two.url} has these bytes (sha256 {sha256})\n"
        "  it was never published there, or was altered since"
    )


def test_diff_names_what_changed(two: FileRegistry) -> None:
    changes = {change.what: (change.before, change.after) for change in compare(two, "red-ball@1", "red-ball@2")}

    assert changes.pop("size")[0] == read_details(two, "red-ball@1").release.size
    assert changes == {
        "threshold": (0.43, 0.5),
        "teacher.name": ("offline", "ViT-B-32-256"),
        "teacher.key": ("offline-" + "ab" * 8, "vit"),
        "teacher.license": ("Apache-2.0", "MIT"),
        "figures.threshold": (0.43, 0.5),
    }
    assert compare(two, "red-ball@2", "red-ball@champion") == []


def test_diff_sees_gate_and_scenario(two: FileRegistry, copy: Path) -> None:
    scenario = (copy / "scenario.yaml").read_text(encoding="utf-8").replace("agreement: 0.95", "agreement: 0.9")
    gate = said(copy / "gate.json")
    gate["clauses"][0]["figure"] = 0.91
    _rewrite(copy, {"scenario.yaml": scenario, "gate.json": json.dumps(gate)})
    publish(copy, two)

    changes = {change.what: (change.before, change.after) for change in compare(two, "red-ball@1", "red-ball@3")}
    assert changes == {"gate.recall.figure": (1.0, 0.91), "scenario.gate.agreement": (0.95, 0.9)}


def test_a_teacher_that_cannot_be_read_is_named(run: Path, two: FileRegistry, tmp_path: Path) -> None:
    publish(another(run, tmp_path / "other", teacher="{"), two)

    assert message(lambda: compare(two, "red-ball@1", "red-ball@3")).startswith(
        "red-ball@3: the teacher in its file: not JSON ("
    )


def _rewrite(run: Path, files: dict[str, str | bytes]) -> None:
    """Change files of a run by hand, and what its manifest says of them."""
    for name, content in files.items():
        (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    stated = said(run / "manifest.json") | {"files": RunFolder(run).hashes(FILES)}
    (run / "manifest.json").write_text(json.dumps(stated), encoding="utf-8")


# what was altered


def blob(registry: FileRegistry, file: str, version: int = 2) -> Path:
    sha256 = read_details(registry, f"red-ball@{version}").release.files[file].sha256
    return Path(registry.url, "blobs", sha256[:2], sha256)


@pytest.mark.parametrize("file", RELEASED)
def test_an_altered_file_is_refused(file: str, two: FileRegistry, tmp_path: Path) -> None:
    place = blob(two, file)
    right, wrong = place.name, bytearray(place.read_bytes())
    wrong[len(wrong) // 2] ^= 1
    place.write_bytes(wrong)
    expected = (
        f"red-ball@2: {file} at {two.url} has sha256 {hashlib.sha256(wrong).hexdigest()}, the release says {right}\n"
        "  the file was altered or damaged: do not use it; ask who runs the registry"
    )
    assert message(lambda: pull(two, "red-ball", tmp_path / "out")) == expected
    assert message(lambda: verify_release(two, "red-ball@2")) == expected
    assert not (tmp_path / "out").exists()


def test_a_file_that_grew_is_not_read(two: FileRegistry, tmp_path: Path) -> None:
    place = blob(two, "card.md")
    size = place.stat().st_size
    place.write_bytes(place.read_bytes() + b" ")

    assert f"{place}: larger than {size:,} bytes" in message(lambda: pull(two, "red-ball", tmp_path / "out"))


def test_a_file_that_is_gone_is_named(two: FileRegistry, tmp_path: Path) -> None:
    place = blob(two, "card.md")
    place.unlink()

    assert message(lambda: pull(two, "red-ball", tmp_path / "out")) == (
        f"{place}: no such file\n  check the address of the registry"
    )


def abroad(model: bytes) -> bytes:
    """A model whose weights lie in another file, outside its folder."""
    proto = onnx.load_from_string(model)
    tensor = proto.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret.bin"
    return bytes(proto.SerializeToString())


def test_a_model_whose_data_lie_elsewhere_goes_neither_in_nor_out(
    copy: Path, registry: FileRegistry, tmp_path: Path
) -> None:
    draft = draft_from_run(copy)
    model = abroad(draft.files["model.onnx"])
    _rewrite(copy, {"model.onnx": model})
    refused = "refers to data in another file\n  a model of this factory is one file: export it again"

    assert message(lambda: publish(copy, registry), ModelError) == f"{copy}/model.onnx: {refused}"
    assert not Path(registry.url).exists()

    registry.publish(replace(draft, files={**draft.files, "model.onnx": model}))  # by a program of somebody else's
    for call in (
        lambda: pull(registry, "red-ball", tmp_path / "out"),
        lambda: verify_release(registry, "red-ball"),
        lambda: compare(registry, "red-ball", "red-ball@1"),
    ):
        assert message(call, ModelError) == f"red-ball@1: model.onnx: {refused}"
    assert message(lambda: Model.load("red-ball", registry=registry.url), ModelError).endswith(refused)
    assert not (tmp_path / "out").exists()


def test_an_altered_index_is_noticed_and_healed(two: FileRegistry, run: Path) -> None:
    index = Path(two.url) / "index.json"
    tree = said(index)
    tree["models"]["red-ball"]["versions"]["2"]["threshold"] = 0.9
    index.write_text(json.dumps(tree), encoding="utf-8")

    assert message(lambda: verify_release(two, "red-ball@2")) == (
        f"{index} says something else of red-ball@2 than its record\n"
        "  it was altered, or a publisher was killed: the next publish or promote writes it anew"
    )
    assert message(lambda: Model.load("red-ball@2", registry=two.url)) == (
        "red-ball@2: its file has threshold 0.5, the registry says 0.9\n  do not use it; ask who runs the registry"
    )
    publish(run, two)
    assert verify_release(two, "red-ball@2").difference < 1e-6


def test_an_index_that_is_not_there_is_noticed_and_written(two: FileRegistry, run: Path) -> None:
    (Path(two.url) / "index.json").unlink()

    assert message(lambda: verify_release(two, "red-ball@2")) == (
        f"{two.url}/index.json is not there, and consumers go by it\n"
        "  it was altered, or a publisher was killed: the next publish or promote writes it anew"
    )
    publish(run, two)
    assert verify_release(two, "red-ball@2").difference < 1e-6


def test_an_altered_record_is_refused(two: FileRegistry, tmp_path: Path) -> None:
    record = Path(two.url, "models/red-ball/versions/000002.json")
    record.write_text(json.dumps(said(record) | {"threshold": 0.9}), encoding="utf-8")
    anew = open_registry(two.url)

    assert "its file says ('red-ball', 0.5, 'Is there a red ball?')" in message(
        lambda: _verify_after_refresh(anew, record)
    )
    assert "its file says ('red-ball', 0.5, " in message(lambda: pull(anew, "red-ball@2", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    record.write_text("{", encoding="utf-8")
    assert message(lambda: open_registry(two.url).index()).startswith(f"{record}: not JSON (")


def _verify_after_refresh(registry: FileRegistry, record: Path) -> None:
    promote(registry, "red-ball@1", "shadow", "Ada")  # so that index.json repeats the lie
    verify_release(registry, "red-ball@2")


# through the web


@pytest.fixture
def web(two: FileRegistry) -> Iterator[str]:
    """The folder as a plain web server shows it."""

    with serving(files_of(two.url)) as url:
        yield url


def test_the_web_is_for_reading(web: str, two: FileRegistry, run: Path, tmp_path: Path) -> None:
    shown = open_registry(web)

    assert shown.index() == two.index()
    assert (
        pull(shown, "red-ball", tmp_path / "web").read_bytes() == pull(two, "red-ball", tmp_path / "own").read_bytes()
    )
    assert str(verify_release(shown, str(run / "model.onnx")).release) == "red-ball@1"
    for write in (
        lambda: publish(run, shown),
        lambda: promote(shown, "red-ball@1", "champion", "Ada"),
        lambda: rollback(shown, "red-ball", "champion", "Ada"),
    ):
        assert message(write) == f"{web}: the web is for reading\n  write to the folder that the server shows"


def test_what_the_web_alters_is_refused(web: str, two: FileRegistry, tmp_path: Path) -> None:
    place = blob(two, "model.onnx")
    place.write_bytes(bytes(place.stat().st_size))

    assert f"red-ball@2: model.onnx at {web} has sha256" in message(
        lambda: pull(open_registry(web), "red-ball", tmp_path)
    )


# signatures


@pytest.fixture
def signed(registry: FileRegistry, run: Path, second: Path, signer: Signer) -> FileRegistry:
    publish(run, registry, "champion", replace(ADA, signer=signer))
    publish(second, registry, "champion", replace(ADA, signer=signer))
    return registry


def trust(folder: Path, name: str = "ours") -> Trust:
    return Trust.read(folder / name / "public.pem")


def test_a_signed_release_is_checked(signed: FileRegistry, key_folder: Path, tmp_path: Path) -> None:
    assert verify_release(signed, "red-ball", trust(key_folder)).signed
    assert pull(signed, "red-ball", tmp_path / "out", trust(key_folder)).is_file()
    assert Model.load("red-ball", registry=signed.url, public_key=key_folder / "ours" / "public.pem").name == "red-ball"


def test_a_signature_of_another_key_is_refused(signed: FileRegistry, key_folder: Path, tmp_path: Path) -> None:
    expected = (
        "red-ball@2: the signature is not of this key, or the release was altered after it was signed\n"
        "  do not use it; ask who runs the registry"
    )
    theirs = trust(key_folder, "theirs")

    for call in (
        lambda: pull(signed, "red-ball", tmp_path / "out", theirs),
        lambda: verify_release(signed, "red-ball", theirs),
        lambda: read_details(signed, "red-ball", theirs),
        lambda: compare(signed, "red-ball@1", "red-ball@2", theirs),
        lambda: promote(signed, "red-ball@2", "shadow", "Ada", theirs),
    ):
        assert message(call).replace("red-ball@1", "red-ball@2") == expected
    assert message(lambda: rollback(signed, "red-ball", "champion", "Ada", theirs)) == expected.replace("@2", "@1")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 0.9},
        {"passed": False},
        {"by": "Eve"},
        {"signature": "A" * 86 + "=="},
    ],
)
def test_a_signed_record_that_was_altered_is_refused(
    change: dict, signed: FileRegistry, key_folder: Path, tmp_path: Path
) -> None:
    record = Path(signed.url, "models/red-ball/versions/000002.json")
    record.write_text(json.dumps(said(record) | change), encoding="utf-8")

    assert message(lambda: pull(open_registry(signed.url), "red-ball", tmp_path / "out", trust(key_folder))) == (
        "red-ball@2: the signature is not of this key, or the release was altered after it was signed\n"
        "  do not use it; ask who runs the registry"
    )


def test_an_unsigned_release_is_refused_where_a_key_is_asked(
    two: FileRegistry, key_folder: Path, tmp_path: Path
) -> None:
    assert message(lambda: pull(two, "red-ball", tmp_path, trust(key_folder))) == (
        "red-ball@2: not signed, and a public key is configured\n  publish it with the key"
    )


def test_signing_what_was_not_signed_makes_a_version(two: FileRegistry, second: Path, signer: Signer) -> None:
    done = publish(second, two, options=replace(ADA, signer=signer))

    assert (done.release.version, done.new) == (3, True)
    assert publish(second, two, options=replace(ADA, signer=signer)).release == done.release


def test_a_registry_with_a_pinned_key_takes_and_gives_signed_releases_alone(
    two: FileRegistry, run: Path, second: Path, key_folder: Path, signer: Signer, tmp_path: Path
) -> None:
    shutil.copy(key_folder / "ours" / "public.pem", Path(two.url) / "signer.pem")
    other = Signer.read(key_folder / "theirs" / "private.pem")
    hint = "  name the private key: --key FILE, or FACTORY_SIGNING_KEY"

    assert message(lambda: publish(run, two)) == f"{two.url} takes signed releases alone\n{hint}"
    assert message(lambda: publish(run, two, options=PublishOptions(signer=other))) == (
        f"{two.url} pins another public key than that of your private key\n{hint}"
    )
    unsigned = "red-ball@1: not signed, and a public key is configured\n  publish it with the key"
    assert message(lambda: pull(two, "red-ball@1", tmp_path / "out")) == unsigned
    assert message(lambda: promote(two, "red-ball@1", "champion", "Ada")) == unsigned
    assert message(lambda: rollback(two, "red-ball", "champion", "Ada")) == unsigned

    release = publish(second, two, "champion", PublishOptions(signer=signer)).release
    assert verify_release(two, str(release)).signed


def test_keys_that_are_none_are_refused(two: FileRegistry, key_folder: Path, tmp_path: Path) -> None:
    public, nowhere = key_folder / "ours" / "public.pem", tmp_path / "none.pem"

    assert message(lambda: Signer.read(public)) == (
        f"{public}: no ed25519 private key in PEM without a password\n  factory models keys makes a pair"
    )
    assert message(lambda: Signer.read(nowhere)) == (
        f"{nowhere}: the private key cannot be read (No such file or directory)"
    )
    assert message(lambda: Trust.read(nowhere)) == (
        f"{nowhere}: the public key cannot be read (No such file or directory)"
    )
    assert message(lambda: read_details(two, "red-ball", Trust(b"x"))) == (
        "the public key is not an ed25519 key in PEM\n  factory models keys makes a pair: give the public one"
    )


def test_a_key_pair_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    private, public = make_pair(tmp_path / "keys")

    assert private.stat().st_mode & 0o777 == 0o600
    assert Signer.read(private).public_key == public.read_bytes()
    assert message(lambda: make_pair(tmp_path / "keys")) == (
        f"{private}: there is a key already\n  name another folder, or move it away"
    )


def test_a_folder_that_is_not_there_is_told_apart_from_one_of_other_things(tmp_path: Path) -> None:
    """Programs ask for the kind of error, not for its words."""
    (tmp_path / "photos" / "a").mkdir(parents=True)

    with pytest.raises(RegistryNotFoundError):
        open_existing(str(tmp_path / "none"))
    with pytest.raises(RegistryError) as refused:
        open_existing(str(tmp_path / "photos"))
    assert not isinstance(refused.value, RegistryNotFoundError)
    assert champion.open_if_exists(str(tmp_path / "none")) is None
    with pytest.raises(RegistryError, match="other things"):
        champion.open_if_exists(str(tmp_path / "photos"))


@pytest.mark.parametrize("scheme", ["github://acme/models", "hf://acme"])
def test_a_service_names_the_library_that_it_lacks(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("clip_factory.registry.backends.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tenacity", None)

    with pytest.raises(RegistryError) as refused:
        open_registry(scheme)
    assert str(refused.value).startswith("tenacity is not installed, and ")
    assert refused.value.hint == "pip install 'clip-factory[registry]'"


ROOM = Path(registry_room.__file__).parent
ABOVE = {"clip_factory.registry.backend", "clip_factory.registry.release_reader"}
"""What back-ends may know of the registry."""


@pytest.mark.parametrize("path", sorted(ROOM.rglob("*.py")), ids=lambda path: path.relative_to(ROOM).as_posix())
def test_only_the_loader_table_knows_the_back_ends(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    inside = {name for name in imported if name.startswith("clip_factory.registry")}
    backends = {name for name in inside if name.startswith("clip_factory.registry.backends")}

    if path.parent.name == "backends":
        assert inside - backends <= ABOVE
    else:
        assert not backends or path.name == "open_registry.py"


def test_a_bad_record_blocks_its_own_model_alone(registry: FileRegistry, run: Path, tmp_path: Path) -> None:
    publish(run, registry, "champion")
    other = replace(registry.index().models["red-ball"].versions[1], name="blue-ball")
    root = Path(registry.url.removeprefix("file://"))
    (root / "models" / "blue-ball" / "versions").mkdir(parents=True)
    record = root / "models" / "blue-ball" / "versions" / "000001.json"
    record.write_text(json.dumps(other.to_json()))
    publish(run, open_registry(str(root)), "newest")
    assert set(json.loads((root / "index.json").read_text())["models"]) == {"blue-ball", "red-ball"}

    record.write_text("{")
    (root / "models" / "red-ball" / "versions" / "Thumbs.db").write_bytes(b"x")
    again = open_registry(str(root))
    with console.capture() as told:
        assert set(again.index().models) == {"red-ball"}
    assert told.get().startswith(f"warning: blue-ball is left out of {again.url}: ")
    publish(run, open_registry(str(root)), "third")
    written = json.loads((root / "index.json").read_text())["models"]
    assert set(written) == {"blue-ball", "red-ball"}, "what consumers were told is not taken from them"
    assert "third" in written["red-ball"]["aliases"]
    (root / "models" / "red-ball" / "versions" / "000001.json").write_text("{")
    with pytest.raises(RegistryError):
        open_registry(str(root)).index()


def test_a_signed_record_counts_in_the_registry_that_it_was_signed_for_alone(
    signed: FileRegistry, key_folder: Path, tmp_path: Path, run: Path
) -> None:
    ours = Signer.read(key_folder / "ours" / "private.pem")
    other = open_registry(str(tmp_path / "other"))
    publish(run, other, "champion", PublishOptions(by="Ada", signer=ours))
    assert signed.identity != other.identity
    assert len(signed.identity or "") == 32
    there, here = (Path(one.url.removeprefix("file://")) for one in (signed, other))
    name = Path("models", "red-ball", "versions", "000001.json")
    assert verify_release(other, "red-ball@1", trust(key_folder)).signed
    shutil.copytree(there / "blobs", here / "blobs", dirs_exist_ok=True)
    shutil.copyfile(there / name, here / name)
    with pytest.raises(RegistryError, match="the signature is not of this key"):
        verify_release(open_registry(str(here)), "red-ball@1", trust(key_folder))
