"""Files that version 0.1.0 wrote still load, and say what they said."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from clip_factory.errors import FactoryError, RegistryError

MADE = Path(__file__).parents[1] / "made_by_0_1_0"
SAID: dict[str, Any] = json.loads((MADE / "expected.json").read_text(encoding="utf-8"))
NAME = "soccer-ball"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A copy of the files, as if version 0.1.0 had made them there."""
    root = tmp_path / "made"
    shutil.copytree(MADE, root)
    run = root / "run"
    for file in (run / "scenario.yaml", run / "log.jsonl"):
        file.write_text(file.read_text(encoding="utf-8").replace("ROOT", str(root)), encoding="utf-8")
    _move_photos(run, root / "photos")
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["scenario.yaml"] = hashlib.sha256((run / "scenario.yaml").read_bytes()).hexdigest()
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return root


def _move_photos(run: Path, photos: Path) -> None:
    """The scan's log entry holds a hash of where the photos were, as version 0.1.0 took it."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in lines:
        if line.get("stage") == "images":
            where = {"path": str(photos), "url": None, "sha256": None}
            line["reads"]["images"] = hashlib.sha256(json.dumps(where).encode()).hexdigest()
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def command(*arguments: object, code: int = 0) -> str:
    """What a command prints."""
    from clip_factory.cli.main import app

    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(done.exception, FactoryError):
        raise done.exception
    assert done.exit_code == code, f"{arguments}\n{done.output}"
    return done.stdout


def hashes(run: Path, *apart: str) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(run.iterdir())
        if file.is_file() and file.name not in (".lock", *apart)
    }


def model_parts(run: Path) -> tuple[bytes, dict[str, Any]]:
    """The graph of a run's model, and its metadata with what JSON is in it."""
    model = onnx.load(run / "model.onnx")
    metadata = {prop.key: prop.value for prop in model.metadata_props}
    return model.graph.SerializeToString(), metadata | {"gate": json.loads(metadata["gate"])}


ROUNDING = 1e-3
"""Another processor sums in another order: a rounding to 16 or 8 bits then falls to the other side now and then."""


def is_part(old: Any, new: Any, rel: float = 1e-6) -> bool:
    """Whether all that the old tree holds is in the new one; numbers but for this share of them."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(key in new and is_part(value, new[key], rel) for key, value in old.items())
    if isinstance(old, list):
        pairs = zip(old, new, strict=False) if isinstance(new, list) else ()
        return isinstance(new, list) and len(old) == len(new) and all(is_part(one, other, rel) for one, other in pairs)
    return new == pytest.approx(old, rel=rel, abs=1e-9) if isinstance(old, float) else bool(old == new)


@pytest.mark.parametrize("name", sorted(SAID["scenarios"]))
def test_a_scenario_means_what_it_meant(name: str, made: Path) -> None:
    from clip_factory.scenario import load

    before = json.loads(json.dumps(SAID["scenarios"][name]).replace("ROOT", str(made)))
    now = load(made / "scenarios" / name).model_dump(mode="json")

    assert is_part(before, now), {key: (before[key], now.get(key)) for key in before if before[key] != now.get(key)}


@pytest.mark.slow
def test_a_run_goes_on_without_doing_any_stage_again(made: Path) -> None:
    run = made / "run"
    before = hashes(run)
    (run / "manifest.json").unlink()

    command("run", run, code=4)

    assert hashes(run, "manifest.json", "labels.html") == {k: v for k, v in before.items() if k != "manifest.json"}
    assert json.loads((run / "manifest.json").read_text())["files"].keys() >= {"student.ckpt", "model.onnx"}


@pytest.mark.slow
def test_a_run_is_judged_anew_alike(made: Path) -> None:
    """From student.ckpt and model.onnx as they are: the gate and the report are written again."""
    from huggingface_hub import ModelCard

    run = made / "run"
    before, gate = hashes(run), json.loads((run / "gate.json").read_text().replace("labelled", "labeled"))
    graph, metadata = model_parts(run)
    front = ModelCard.load(run / "card.md").data.to_dict()
    for name in ("gate.json", "predictions.parquet", "report.html", "card.md"):
        (run / name).unlink()

    command("run", run, code=4)

    after, now = hashes(run), json.loads((run / "gate.json").read_text())
    for kept in ("images.parquet", "labels.parquet", "student.ckpt", "held_out.parquet"):
        assert after[kept] == before[kept], kept
    graph_now, metadata_now = model_parts(run)
    assert graph_now == graph
    assert is_part(metadata, metadata_now, ROUNDING)
    assert gate["inputs"].pop("model.onnx") == before["model.onnx"]
    assert now["inputs"].pop("model.onnx") == after["model.onnx"]
    for tree in (gate, now):
        del tree["figures"]["latency_ms"]
    assert is_part(gate, now, ROUNDING)
    assert (run / "report.html").stat().st_size > 50_000
    card = ModelCard.load(run / "card.md")
    assert card.data.to_dict() == front
    assert "soccer ball" in card.text


@pytest.mark.slow
def test_a_student_is_exported_to_a_model_that_answers_alike(made: Path) -> None:
    from clip_factory.runtime import Model

    run = made / "run"
    before = hashes(run)
    (run / "model.onnx").rename(made / "before.onnx")

    command("export", run)

    assert hashes(run)["student.ckpt"] == before["student.ckpt"]
    photos = sorted((made / "photos").glob("img_*.jpg"))
    old, new = (
        [answer.probability for answer in Model.load(file).predict(photos)]
        for file in (made / "before.onnx", run / "model.onnx")
    )
    assert new == pytest.approx(old, abs=ROUNDING)


def test_a_model_answers_as_it_did(made: Path) -> None:
    from clip_factory.runtime import Model

    model = Model.load(made / "run" / "model.onnx")
    photos = sorted((made / "photos").glob("img_*.jpg"))
    answers = {Path(answer.path).name: answer.probability for answer in model.predict(photos)}

    assert model.threshold == SAID["threshold"]
    assert answers.keys() == SAID["probabilities"].keys()
    np.testing.assert_allclose(
        [answers[name] for name in SAID["probabilities"]], list(SAID["probabilities"].values()), atol=1e-5
    )


def test_the_verdict_is_the_one_that_was_given(made: Path) -> None:
    from clip_factory.gate.verdict import read

    verdict = read(json.loads((made / "run" / "gate.json").read_text(encoding="utf-8")))

    assert (verdict.state, verdict.headline) == (SAID["verdict"]["state"], SAID["verdict"]["headline"])


def test_a_run_is_evaluated_on_gold_alike(made: Path) -> None:
    old = json.loads(json.dumps(SAID["evaluate"]).replace("ROOT", str(made)))
    new = json.loads(command("evaluate", made / "run", "--gold", made / "gold.csv", "--format", "json"))

    old["photos"]["unlabeled"] = old["photos"].pop("unlabelled")
    assert new["headline"] == old["headline"]
    for part in ("confusion", "figures", "thresholds", "photos"):
        assert is_part(old[part], new[part]), part


def test_a_threshold_can_be_moved(made: Path) -> None:
    before = hashes(made / "run")

    command("threshold", made / "run", "--at", "0.5")

    assert hashes(made / "run")["student.ckpt"] == before["student.ckpt"]
    assert hashes(made / "run")["model.onnx"] != before["model.onnx"]


def test_a_journal_gives_the_same_gold(made: Path) -> None:
    from clip_factory.gold.journal import Journal

    ledger = Journal(made / f"{NAME}.answers.jsonl").ledger()

    assert ledger.gold == SAID["gold"]
    assert sorted(ledger.undecided) == SAID["withheld"]
    assert sorted(ledger.sampled) == SAID["drawn"]
    assert ledger.digest() == SAID["digest"], "a run would be labeled again"


def test_a_journal_goes_on(made: Path) -> None:
    from clip_factory.gold.journal import Journal

    journal = Journal(made / f"{NAME}.answers.jsonl")
    sha256 = next(sha for sha, answer in SAID["gold"].items() if answer)
    journal.answer("Ada", {sha256: "img.jpg"}, "no")

    assert Journal(journal.path).ledger().gold == SAID["gold"] | {sha256: False}


def test_the_table_of_answers_is_gold(made: Path) -> None:
    labels = ("--gold", made / f"{NAME}.gold.parquet", "--images", made / "photos")

    printed = json.loads(command("evaluate", made / "run" / "model.onnx", *labels, "--format", "json"))

    random = SAID["gold"].keys() & set(SAID["drawn"])
    assert printed["photos"]["measured"] == len(random), "labels asked for because of doubt measure nothing"


def test_vectors_are_found_in_the_store(made: Path) -> None:
    """Training again reads the vectors that the labels name: their key and the shards are as they were."""
    import pyarrow.parquet as pq

    folder = next((made / "store" / "vectors").iterdir())
    labels = pq.read_table(made / "run" / "labels.parquet")

    assert json.loads(labels.schema.metadata[b"teacher"])["key"] == folder.name
    assert set(pq.read_table(next(folder.glob("*.parquet")))["sha256"].to_pylist()) >= set(labels["sha256"].to_pylist())


@pytest.mark.slow
def test_labeling_again_embeds_once_and_labels_alike(made: Path) -> None:
    import pyarrow.parquet as pq

    run = made / "run"
    before = pq.read_table(run / "labels.parquet")
    for _ in range(2):
        (run / "labels.parquet").unlink()
        command("label", run, "--store", made / "store")

    after = pq.read_table(run / "labels.parquet")
    events = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [event["embedded"] for event in events if "embedded" in event] == [
        *(84, 84, 0)  # the key of version 0.1.0 did not cover how photos are decoded
    ]
    for name in before.column_names:
        now, then = after[name].to_pylist(), before[name].to_pylist()
        if name in ("p_teacher", "scores", "weight"):  # another processor sums in another order
            assert np.array(now) == pytest.approx(np.array(then), abs=1e-5), name
        else:
            assert now == then, name


def test_a_registry_lists_and_shows_what_it_did(made: Path) -> None:
    registry = ("--registry", made / "registry", "--format", "json")

    assert is_part(SAID["list"], json.loads(command("models", "list", NAME, *registry)))
    assert is_part(SAID["show"], json.loads(command("models", "show", f"{NAME}@champion", *registry)))


def test_a_registry_promotes_and_rolls_back(made: Path) -> None:
    registry = ("--registry", made / "registry")

    with pytest.raises(RegistryError, match="staging has stood for no version before 2"):
        command("models", "rollback", NAME, "staging", *registry)
    assert command("models", "promote", f"{NAME}@2", "champion", "--allow-unproven", *registry) == f"{NAME}@2\n"
    assert command("models", "rollback", NAME, "champion", *registry) == f"{NAME}@1\n"


def test_a_release_is_pulled_verified_and_predicts(made: Path, tmp_path: Path) -> None:
    from clip_factory.runtime import Model

    key = ("--public-key", made / "public.pem")
    command("models", "pull", f"{NAME}@champion", "--out", tmp_path, "--registry", made / "registry", *key)
    pulled = tmp_path / f"{NAME}-1" / "model.onnx"
    command("models", "verify", pulled, *key)
    command("models", "verify", f"{NAME}@2", "--registry", made / "registry", *key)

    photo = made / "photos" / "img_0001.jpg"
    loaded = Model.load(f"{NAME}@champion", registry=made / "registry", public_key=made / "public.pem")
    for model in (Model.load(pulled), loaded):
        assert model.predict(photo).probability == pytest.approx(SAID["probabilities"][photo.name], abs=1e-5)


def test_a_run_is_published_beside_what_is_there(made: Path) -> None:
    registry = ("--registry", made / "registry")
    (made / "run" / "report.html").write_text("<!doctype html><title>another report</title>", encoding="utf-8")
    manifest = json.loads((made / "run" / "manifest.json").read_text())
    manifest["files"]["report.html"] = hashlib.sha256((made / "run" / "report.html").read_bytes()).hexdigest()
    (made / "run" / "manifest.json").write_text(json.dumps(manifest))

    command("publish", made / "run", "--to", made / "registry", "--allow-unproven")

    listed = json.loads(command("models", "list", NAME, *registry, "--format", "json"))
    assert "3" in json.dumps(listed)


@pytest.mark.slow
def test_a_run_is_compared_with_a_release(made: Path) -> None:
    photos = ("--gold", made / "gold.csv", "--images", made / "photos")

    printed = command("compare", made / "run", f"{NAME}@2", *photos, "--registry", made / "registry")

    assert "no difference" in printed or "finds" in printed
