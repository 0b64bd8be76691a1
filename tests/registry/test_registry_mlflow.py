"""The MLflow Model Registry, against a real MLflow server on loopback with a SQLite store."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clip_factory.errors import RegistryError
from clip_factory.registry.backend import Draft
from clip_factory.registry.backends.mlflow_client import SETTINGS
from clip_factory.registry.backends.mlflow_registry import MlflowRegistry
from clip_factory.runtime import Model
from clip_factory.runtime.releases.release_record import Release
from support.loopback import Loopback, Response
from support.mlflow_server import serve
from support.registry_contract import Contract, a_draft, another, some_runs, to

pytestmark = pytest.mark.slow
mlflow = pytest.importorskip("mlflow", reason="pip install 'clip-factory[dev]' brings mlflow-skinny")
NAME = "red-ball"
assert a_draft and some_runs  # fixtures


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture
def client(server: str, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    """A client of the server, which holds no models at first."""
    for name, value in SETTINGS.items():  # so that they end with the test
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")  # seconds; the machine may be busy
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    client = mlflow.MlflowClient(server, server)
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    return client


@pytest.fixture
def registry(server: str, client: mlflow.MlflowClient) -> MlflowRegistry:
    return MlflowRegistry(f"mlflow+{server}")


class TestContract(Contract):
    @pytest.fixture
    def registry(self, server: str, client: mlflow.MlflowClient) -> MlflowRegistry:
        self.client = client
        return MlflowRegistry(f"mlflow+{server}")

    def tamper(self, release: Release, file: str, data: bytes) -> None:
        run = self.client.get_model_version(release.name, str(release.version)).run_id
        self.client.log_text(run, data.decode(), f"model/{file}")


def test_mlflow_users_load_it_the_usual_way(
    server: str, client: mlflow.MlflowClient, registry: MlflowRegistry, a_draft: Draft, tmp_path: Path
) -> None:
    release = registry.publish(a_draft)
    registry.move(NAME, to(NAME, "champion", 1))
    mlflow.set_tracking_uri(server)
    size = Model.load(_written(tmp_path, a_draft)).image_size
    batch = np.random.default_rng(0).integers(0, 255, (5, size, size, 3), dtype=np.uint8)
    loaded = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    np.testing.assert_allclose(loaded.predict(batch)["probability"], batch.mean((1, 2, 3)) / 255, atol=1e-5)
    graph = mlflow.onnx.load_model(f"models:/{NAME}/{release.version}")
    assert [entry.value for entry in graph.metadata_props if entry.key == "name"] == [NAME]
    version = client.get_model_version_by_alias(NAME, "champion")
    assert json.loads(version.tags["clip-factory.release"])["sha256"] == release.sha256
    assert version.description == a_draft.question
    assert "agreement_all" in client.get_run(version.run_id).data.metrics


def _written(folder: Path, draft: Draft) -> Path:
    (folder / "model.onnx").write_bytes(draft.files["model.onnx"])
    return folder / "model.onnx"


def test_a_number_that_somebody_took_is_passed_over(
    client: mlflow.MlflowClient, registry: MlflowRegistry, a_draft: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another tool registers a version of the same name between our look and our call."""
    to_release = Draft.to_release

    def too_slow(draft: Draft, version: int) -> Release:
        monkeypatch.setattr(Draft, "to_release", to_release)
        client.create_model_version(NAME, "s3://elsewhere/model", await_creation_for=0)
        return to_release(draft, version)

    monkeypatch.setattr(Draft, "to_release", too_slow)
    assert registry.publish(a_draft).version == 3  # 1 is theirs; 2 was deleted: it had 1 in its record
    assert sorted(int(version.version) for version in client.search_model_versions(f"name='{NAME}'")) == [1, 3]
    assert list(registry.index().models[NAME].versions) == [3]


def test_a_deleted_version_is_never_used_again(
    client: mlflow.MlflowClient, registry: MlflowRegistry, a_draft: Draft
) -> None:
    registry.publish(a_draft)
    registry.publish(another(a_draft, 2))
    client.delete_model_version(NAME, "2")
    assert registry.publish(another(a_draft, 3)).version == 4  # 3 was deleted: it had 2 in its record


def test_moves_made_in_mlflow_are_told(client: mlflow.MlflowClient, registry: MlflowRegistry, a_draft: Draft) -> None:
    for number in (1, 2, 3):
        registry.publish(another(a_draft, number))
    registry.move(NAME, to(NAME, "champion", 1, "Ada"))
    client.set_registered_model_alias(NAME, "champion", "3")
    assert registry.index().models[NAME].aliases == {"champion": 3}
    registry.move(NAME, to(NAME, "champion", 2, "Bob"))
    told = [(move.before, move.after, move.by) for move in registry.history(NAME)]
    assert told == [(None, 1, "Ada"), (1, 3, "MLflow"), (3, 2, "Bob")]
    client.delete_registered_model_alias(NAME, "champion")
    assert registry.index().models[NAME].aliases == {}
    assert registry.move(NAME, to(NAME, "champion", 2)) is not None
    assert client.get_registered_model(NAME).aliases == {"champion": "2"}


def test_a_process_that_dies_between_alias_and_record_loses_no_move(
    registry: MlflowRegistry, a_draft: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.publish(a_draft)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("clip_factory.registry.backends.mlflow_registry._record", die)
        with pytest.raises(KeyboardInterrupt):
            registry.move(NAME, to(NAME, "champion", 1))
    assert registry.index().models[NAME].aliases == {"champion": 1}
    assert [(move.before, move.after, move.by) for move in registry.history(NAME)] == [(None, 1, "MLflow")]


def test_a_publisher_that_dies_before_the_version_changes_nothing(
    registry: MlflowRegistry, a_draft: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.publish(a_draft)
    before = registry.index()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowRegistry, "_register", die)
        with pytest.raises(KeyboardInterrupt):
            registry.publish(another(a_draft, 2))
    assert registry.index() == before
    assert registry.publish(another(a_draft, 2)).version == 2


def test_an_experiment_that_somebody_has_just_made_is_taken(
    registry: MlflowRegistry, a_draft: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.publish(a_draft)
    look = mlflow.MlflowClient.get_experiment_by_name

    def too_early(client: mlflow.MlflowClient, name: str) -> None:
        monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", look)

    monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", too_early)
    assert registry.publish(another(a_draft, 2)).version == 2


def test_models_of_others_are_left_alone(client: mlflow.MlflowClient, registry: MlflowRegistry, a_draft: Draft) -> None:
    client.create_registered_model("theirs")
    client.create_model_version("theirs", "s3://elsewhere/model", await_creation_for=0)
    registry.publish(a_draft)
    assert list(registry.index().models) == [NAME]


def test_a_file_that_is_gone_is_named(client: mlflow.MlflowClient, registry: MlflowRegistry, a_draft: Draft) -> None:
    release = registry.publish(a_draft)
    missing = replace(release, files={**release.files, "notes.txt": release.files["card.md"]})
    with pytest.raises(RegistryError, match=f"{NAME}@1 has lost its file notes.txt"):
        registry.read(missing, "notes.txt")


def test_a_pinned_key_is_a_tag_of_the_experiment(
    client: mlflow.MlflowClient, registry: MlflowRegistry, a_draft: Draft
) -> None:
    registry.publish(a_draft)
    assert registry.pinned_key() is None
    experiment = client.get_experiment_by_name("clip-factory").experiment_id
    client.set_experiment_tag(experiment, "clip-factory.signer", "PEM")
    assert registry.pinned_key() == b"PEM"
    client.delete_experiment_tag(experiment, "clip-factory.signer")


def test_a_server_that_is_not_there(client: mlflow.MlflowClient) -> None:
    with pytest.raises(RegistryError, match="no MLflow server answers"):
        MlflowRegistry("mlflow+http://127.0.0.1:9").index()


def test_wrong_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for url in ("mlflow://", "mlflow+ftp://x", "mlflow+http://", "mlflow+http://me:secret@host"):
        with pytest.raises(RegistryError, match="no address of an MLflow server"):
            MlflowRegistry(url).index()


def test_without_the_library_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(RegistryError, match="MLflow is not installed") as caught:
        MlflowRegistry("mlflow+http://127.0.0.1:9").index()
    assert "pip install 'clip-factory[mlflow]'" in str(caught.value)


def test_refusals_say_what_to_do(client: mlflow.MlflowClient) -> None:
    """A stand-in: the real server asks for names and passwords only with a plug-in."""
    with Loopback() as server:
        server.failures += [Response(401, b"You are not authenticated."), Response(403, b"Permission denied")]
        for status in (401, 403):
            with pytest.raises(RegistryError, match=f"not allowed .{status}: ") as caught:
                MlflowRegistry(f"mlflow+{server.url}").index()
            assert "MLFLOW_TRACKING_TOKEN" in str(caught.value)
