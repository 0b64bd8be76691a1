"""Releases in the MLflow Model Registry: its models, versions, aliases and tags, and its ONNX flavour.

The files are artifacts of a run, together with an MLmodel that makes them a model of MLflow's
(`mlflow.pyfunc.load_model("models:/forklift@champion")`, or `mlflow.onnx.load_model`). Then one call creates the model
version with our record as a tag: that is the point from which the release exists. MLflow allots the number; if it is
not the one in the record, because somebody was faster, the version is deleted and the next one
tried: numbers have gaps then.

An alias is MLflow's own, and moved by one call; the record of the move is a tag of the model, set right after. MLflow
has no compare-and-swap: of two moves at the same time the later one holds, and the history has both. A move that nobody
recorded (made in MLflow itself, or by a process killed between the two calls) is listed as made by `MLflow`.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip_factory.errors import RegistryError
from clip_factory.registry.backend import Decide, Draft, Move, current_aliases, make_index
from clip_factory.registry.backends.mlflow_client import (
    EXISTS,
    MISSING,
    MlflowError,
    connect,
    iterate_pages,
    mlflow_errors,
)
from clip_factory.registry.release_reader import load_bytes
from clip_factory.runtime.releases.json_fields import loads
from clip_factory.runtime.releases.release_index import Index
from clip_factory.runtime.releases.release_record import MODEL, Release

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG = "clip-factory"
"""Name of the experiment, and a tag of every model that has releases."""
RELEASE = "clip-factory.release"
"""Tag of a version: the record of the release, JSON."""
MOVE = "clip-factory.move."
"""Begin of the tags of a model that hold moves, JSON; they sort as they were made."""
SIGNER = "clip-factory.signer"
"""Tag of the experiment: the public key (PEM) that all releases must be signed with."""
FOLDER = "model"
DESCRIPTION_PREFIX = {"passed": "", "not proven": "Not proven by the gate. ", "refused": "Refused by the gate. "}
"""What the description of a version begins with, by the state of the release."""
MAX_NUMBERS = 100
"""How many version numbers are tried while others publish the same model."""


@dataclass(frozen=True)
class MlflowRegistry:
    """The registry on an MLflow server: mlflow+http(s)://HOST:PORT, or mlflow:// for that of MLFLOW_TRACKING_URI."""

    url: str

    def index(self) -> Index:
        """All releases, and the aliases as MLflow has them."""
        client = connect(self.url)
        wanted = f"tags.`{TAG}` = 'yes'"
        with mlflow_errors(f"{self.url}: list the models"):
            models = list(iterate_pages(lambda token: client.search_registered_models(wanted, page_token=token)))
        releases = [release for model in models for release in self._releases(client, model.name)]
        index = make_index(releases, ())
        aliases = {model.name: _aliases(model) for model in models}
        return Index(
            {
                name: replace(entry, aliases=_known(aliases[name], entry.versions))
                for name, entry in index.models.items()
            }
        )

    def history(self, name: str) -> Sequence[Move]:
        """All moves of a model's aliases, oldest first."""
        model = self._model(connect(self.url), name)
        return [] if model is None else [*_recorded(model), *_unrecorded(model)]

    def publish(self, draft: Draft) -> Release:
        """Keep a release; the module says in which order."""
        client = connect(self.url)
        self._ensure_model(client, draft)
        if existing := draft.find_in(self._releases(client, draft.name)):
            return existing
        run = self._log(client, draft)
        release = self._register(client, draft, run)
        first = draft.find_in(self._releases(client, draft.name))
        if release is None or (first is not None and first.version < release.version):  # somebody was quicker
            with mlflow_errors(f"{self.url}: tidy up after {draft.name}"):
                if release is not None:
                    client.delete_model_version(draft.name, str(release.version))
                client.delete_run(run)
            release = first
        if release is None:
            raise RegistryError(f"{self.url}: {draft.name} vanished while it was published", hint="publish it again")
        return release

    @property
    def reserved_aliases(self) -> frozenset[str]:
        """What MLflow means by a name itself: the newest version, whatever it is."""
        return frozenset({"latest"})

    def move(self, name: str, decide: Decide) -> Move | None:
        """Move an alias and record it: two calls, see the module."""
        client = connect(self.url)
        model = self._model(client, name)
        outside = [] if model is None else _unrecorded(model)
        live = {} if model is None else _aliases(model)
        moves = [] if model is None else [*_recorded(model), *outside]
        move = decide([one for one in moves if one.alias in live])
        if move is None:
            return None
        with mlflow_errors(f"{self.url}: move {move.alias} of {name}"):
            for unrecorded in outside:
                _record(client, unrecorded)
            client.set_registered_model_alias(name, move.alias, str(move.after))
            _record(client, move)
        return move

    def read(self, release: Release, file: str) -> bytes:
        """The bytes of one file of a release; at most as many as the release says."""
        client = connect(self.url)
        path, max_bytes = f"{FOLDER}/{file}", release.files[file].size
        with mlflow_errors(f"{self.url}: read {file} of {release}"), tempfile.TemporaryDirectory() as folder:
            run = str(client.get_model_version(release.name, str(release.version)).run_id)
            sizes = {artifact.path: artifact.file_size or 0 for artifact in client.list_artifacts(run, FOLDER)}
            if path not in sizes:
                raise RegistryError(f"{self.url}: {release} has lost its file {file}", hint="publish the run again")
            if sizes[path] > max_bytes:
                raise RegistryError(f"{self.url}: {file} of {release}: more than the {max_bytes:,} bytes expected")
            return Path(client.download_artifacts(run, path, folder)).read_bytes()

    def pinned_key(self) -> bytes | None:
        """The experiment's tag `clip-factory.signer`."""
        client = connect(self.url)
        with mlflow_errors(f"{self.url}: read the experiment"):
            experiment = client.get_experiment_by_name(TAG)
        key = experiment.tags.get(SIGNER) if experiment is not None else None
        return None if key is None else str(key).encode()

    def _model(self, client: MlflowClient, name: str) -> Any:
        try:
            with mlflow_errors(f"{self.url}: find {name}"):
                return client.get_registered_model(name)
        except MlflowError as error:
            if error.code == MISSING:
                return None
            raise

    def _ensure_model(self, client: MlflowClient, draft: Draft) -> None:
        try:
            with mlflow_errors(f"{self.url}: register {draft.name}"):
                client.create_registered_model(draft.name, tags={TAG: "yes"}, description=draft.question)
        except MlflowError as error:
            if error.code != EXISTS:
                raise
            with mlflow_errors(f"{self.url}: tag {draft.name}"):
                client.set_registered_model_tag(draft.name, TAG, "yes")

    def _releases(self, client: MlflowClient, name: str) -> list[Release]:
        """The releases of a model, oldest first; versions that others have registered are passed over."""
        releases = []
        for number, tags in self._versions(client, name):
            if RELEASE in tags:
                where = f"{self.url}: {name} version {number}"
                release = Release.parse(loads(tags[RELEASE], where), where)
                if (release.name, release.version) == (name, number):  # else it is about to be deleted
                    releases.append(release)
        return sorted(releases, key=lambda one: one.version)

    def _versions(self, client: MlflowClient, name: str) -> list[tuple[int, Mapping[str, str]]]:
        wanted = f"name='{name}'"
        with mlflow_errors(f"{self.url}: list the versions of {name}"):
            versions = iterate_pages(lambda token: client.search_model_versions(wanted, page_token=token))
            return [(int(version.version), version.tags) for version in versions]

    def _experiment(self, client: MlflowClient) -> str:
        """The experiment of all our runs, created if need be."""
        try:
            with mlflow_errors(f"{self.url}: make the experiment {TAG}"):
                experiment = client.get_experiment_by_name(TAG)
                return str(experiment.experiment_id if experiment else client.create_experiment(TAG))
        except MlflowError as error:
            if error.code != EXISTS:
                raise
            with mlflow_errors(f"{self.url}: find the experiment {TAG}"):  # somebody was quicker
                experiment = client.get_experiment_by_name(TAG)
                return str(experiment.experiment_id if experiment else "")

    def _log(self, client: MlflowClient, draft: Draft) -> str:
        """Log the files as artifacts of a new run; gives the run."""
        key = self._experiment(client)
        with mlflow_errors(f"{self.url}: upload {draft.name}"), tempfile.TemporaryDirectory() as folder:
            run = str(client.create_run(key, run_name=draft.name, tags={"mlflow.user": draft.by}).info.run_id)
            for file, data in {**draft.files, "MLmodel": _description(draft, run)}.items():
                Path(folder, file).write_bytes(data)
            client.log_artifacts(run, folder, FOLDER)
            for metric, value in _metrics(draft).items():
                client.log_metric(run, metric, value)
            client.set_terminated(run)
        return run

    def _register(self, client: MlflowClient, draft: Draft, run: str) -> Release | None:
        """Create the model version; None if the same bytes are a version by now."""
        allotted = 0
        for _ in range(MAX_NUMBERS):
            if draft.find_in(self._releases(client, draft.name)):
                return None
            release = draft.to_release(
                max([allotted, *(number for number, _ in self._versions(client, draft.name))]) + 1
            )
            record = {RELEASE: json.dumps(release.to_json(), ensure_ascii=False)}
            with mlflow_errors(f"{self.url}: register {release}"):
                source = f"{client.get_run(run).info.artifact_uri}/{FOLDER}"
                text = f"{DESCRIPTION_PREFIX[draft.state]}{draft.question}"
                made = client.create_model_version(
                    draft.name, source, run, tags=record, description=text, await_creation_for=0
                )
                allotted = int(made.version)
                if allotted == release.version:
                    return release
                client.delete_model_version(draft.name, str(allotted))
        raise RegistryError(f"{self.url}: others publish {draft.name} all the time", hint="try again in a while")


def _aliases(model: Any) -> dict[str, int]:
    return {alias: int(version) for alias, version in model.aliases.items()}


def _known(aliases: Mapping[str, int], versions: Mapping[int, Release]) -> dict[str, int]:
    return {alias: version for alias, version in aliases.items() if version in versions}


def _recorded(model: Any) -> list[Move]:
    records = sorted((key, text) for key, text in model.tags.items() if key.startswith(MOVE))
    return [Move.parse(loads(text, key), f"{model.name}: tag {key}") for key, text in records]


def _unrecorded(model: Any) -> list[Move]:
    """The moves that must have been made since the last recorded ones."""
    known = current_aliases(_recorded(model))
    when = datetime.fromtimestamp(model.last_updated_timestamp / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return [
        Move(model.name, alias, known.get(alias), version, when, "MLflow", "promote")
        for alias, version in sorted(_aliases(model).items())
        if known.get(alias) != version
    ]


def _record(client: MlflowClient, move: Move) -> None:
    key = f"{MOVE}{time.time_ns():020d}.{os.urandom(4).hex()}"
    client.set_registered_model_tag(move.name, key, json.dumps(move.to_json(), ensure_ascii=False))


def _description(draft: Draft, run: str) -> bytes:
    """MLflow's MLmodel file, which is YAML, of which JSON is a part: the ONNX flavour, inputs and outputs."""
    size = load_bytes(draft.files[MODEL], f"{draft.name}: {MODEL}").image_size
    inputs = [{"type": "tensor", "name": "image", "tensor-spec": {"dtype": "uint8", "shape": [-1, size, size, 3]}}]
    outputs = [{"type": "tensor", "name": "probability", "tensor-spec": {"dtype": "float32", "shape": [-1]}}]
    tree = {
        "artifact_path": FOLDER,
        "run_id": run,
        "utc_time_created": draft.created.replace("T", " ").rstrip("Z"),
        "flavors": {
            "onnx": {"data": MODEL, "providers": ["CPUExecutionProvider"], "code": None},
            "python_function": {"loader_module": "mlflow.onnx", "data": MODEL},
        },
        "signature": {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs), "params": None},
    }
    return json.dumps(tree, indent=2).encode()


def _metrics(draft: Draft) -> dict[str, float]:
    """The gate's figures that are one number each."""
    figures = loads(draft.files.get("gate.json", b"{}"), "gate.json").get("figures", {})
    bare = {name: value.get("figure") if isinstance(value, dict) else value for name, value in figures.items()}
    return {name: float(value) for name, value in bare.items() if isinstance(value, (int, float))}
