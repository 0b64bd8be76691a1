"""From a finished run to a draft: everything that the release will hold, read once, checked against the manifest."""

from __future__ import annotations

import getpass
import hashlib
import json
import platform
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from factory.artifacts import CARD, FILES, GATE, MANIFEST, MODEL, REPORT, SCENARIO, RunFolder
from factory.errors import RegistryError, RunError
from factory.registry.backend import PROVENANCE, Draft
from factory.registry.keys import Signer
from factory.runtime import Model
from factory.runtime.index import one_line

RELEASED = (MODEL, CARD, MANIFEST, GATE, REPORT, SCENARIO)
"""The files of a release."""
FORCED = (
    "> **Published by force.** The gate refused this model; whoever published it knew that and published it all the"
    " same. `gate.json` says which clauses failed.\n\n"
)


class GateRefusedError(RegistryError):
    """The gate refused the run, and nobody forces it."""


@dataclass(frozen=True)
class Terms:
    """How a run is to be published."""

    force: bool = False
    """Although the gate refused it."""
    by: str = ""
    """Who publishes, one line; empty: the user and the machine."""
    signer: Signer | None = None
    provenance: bytes | None = None
    """What goes into the release as provenance.json: who made it, from what. See `automation.provenance`."""


USUAL = Terms()


def draft_of(folder: Path, terms: Terms = USUAL) -> Draft:
    """Read a finished run, check it, and make a draft of it.

    Raises:
        RunError: It is no run folder, is not finished, or was altered after it was finished.
        GateRefusedError: The gate refused it, and `terms` does not force it.
        ModelError: Its model.onnx is not a model of this factory.
    """
    run = RunFolder.open(folder)
    files = _read(run)
    model, gate = _model(run, files), json.loads(files[GATE])
    passed = _passed(run, gate, model)
    if not passed and not terms.force:
        failed = ", ".join(clause["name"] for clause in gate["clauses"] if clause["verdict"] == "fail")
        raise GateRefusedError(
            f"{folder}: the gate refused this run ({failed or 'nothing shows that the student is right'})",
            hint="publish it all the same: --force; its card will say so",
        )
    if not passed:
        files[CARD] = _with_notice(files[CARD])
    kept = {name: files[name] for name in RELEASED}
    return Draft(
        name=model.name,
        question=one_line(model.question),
        threshold=model.threshold,
        passed=passed,
        forced=not passed,
        created=now(),
        by=terms.by or whoever(),
        files=kept if terms.provenance is None else {**kept, PROVENANCE: terms.provenance},
        signer=terms.signer,
    )


def now() -> str:
    """This moment: ISO 8601, UTC, with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def whoever() -> str:
    """The user and the machine, as `user@machine`."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container without users
        user = "unknown"
    return f"{user}@{platform.node() or 'unknown'}"


def _read(run: RunFolder) -> dict[str, bytes]:
    """The released files, each as the manifest says it was; the other files of the run too, where they are there."""
    try:
        stated: dict[str, str] = run.json(MANIFEST, "run")["files"]
    except (KeyError, TypeError):
        raise RunError(f"{run.path}: its {MANIFEST} names no files", hint=f"factory run {run.path}") from None
    files = {MANIFEST: run.file(MANIFEST).read_bytes()}
    for name in FILES:
        if name not in RELEASED and not run.file(name).is_file():
            continue
        data = run.need(name, "run").read_bytes()
        if hashlib.sha256(data).hexdigest() != stated.get(name):
            raise RunError(
                f"{run.path}: {name} is not what {MANIFEST} says it was when the run ended: it was altered since",
                hint=f"finish the run again: factory run {run.path}",
            )
        if name in RELEASED:
            files[name] = data
    return files


def load_bytes(data: bytes) -> Model:
    """A model from its bytes, the very ones, whatever becomes of the file that they were read from.

    Raises:
        ModelError: They are not a model of this factory.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, MODEL)
        path.write_bytes(data)
        return Model.load(path, threads=1)


def _model(run: RunFolder, files: dict[str, bytes]) -> Model:
    model = load_bytes(files[MODEL])
    scenario = json.loads(files[MANIFEST]).get("scenario")
    if model.name != scenario:
        raise RunError(f"{run.path}: {MODEL} is of {model.name!r}, the run of {scenario!r}", hint="name the right run")
    return model


def _passed(run: RunFolder, gate: dict[str, Any], model: Model) -> bool:
    """What the gate said, which the file must say too."""
    stamp = json.loads(model.metadata["gate"])["passed"] if "gate" in model.metadata else None
    # the stamp was made without the clause on bytes: the file may say passed where gate.json refuses
    if stamp is not None and gate["passed"] and not stamp:
        raise RunError(f"{run.path}: {GATE} says passed, {MODEL} says refused", hint=f"factory gate {run.path}")
    return bool(gate["passed"])


def _with_notice(card: bytes) -> bytes:
    """The card with a notice on top, after its front matter."""
    text = card.decode("utf-8")
    head, end, body = text.partition("\n---\n\n")
    return (f"{head}{end}{FORCED}{body}" if end else FORCED + text).encode()
