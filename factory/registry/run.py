"""From a finished run to a draft: everything that the release will hold, read once, checked against the manifest."""

from __future__ import annotations

import getpass
import hashlib
import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from factory.artifacts import CARD, FILES, GATE, MANIFEST, MODEL, REPORT, SCENARIO, RunFolder
from factory.errors import RegistryError, RunError
from factory.registry.backend import PROVENANCE, Draft
from factory.registry.contents import clauses, load_bytes
from factory.registry.keys import Signer
from factory.runtime import Model
from factory.runtime.fields import loads
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
    model = _model(run, files)
    failed = _failed(run, files[GATE], model)
    passed = failed is None
    if not passed and not terms.force:
        raise GateRefusedError(
            f"{folder}: the gate refused this run ({failed})",
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
    manifest = run.json(MANIFEST, "run")
    stated = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(stated, dict):
        raise RunError(f"{run.path}: its {MANIFEST} names no files", hint=f"factory run {run.path}")
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


def _model(run: RunFolder, files: dict[str, bytes]) -> Model:
    model = load_bytes(files[MODEL], str(run.file(MODEL)))
    scenario = json.loads(files[MANIFEST]).get("scenario")
    if model.name != scenario:
        raise RunError(f"{run.path}: {MODEL} is of {model.name!r}, the run of {scenario!r}", hint="name the right run")
    return model


def _failed(run: RunFolder, text: bytes, model: Model) -> str | None:
    """Why the gate refused the run; None if it passed it, which the file must not contradict."""
    gate = loads(text, str(run.file(GATE)))
    if not isinstance(gate, dict) or not isinstance(passed := gate.get("passed"), bool):
        raise RunError(f"{run.file(GATE)} does not say whether the run passed", hint=f"factory gate {run.path}")
    stamp = loads(model.metadata.get("gate", "{}"), f"{run.file(MODEL)}: the gate in it")
    # the stamp was made without the clause on bytes: the file may say passed where gate.json refuses
    if passed and isinstance(stamp, dict) and stamp.get("passed") is False:
        raise RunError(f"{run.path}: {GATE} says passed, {MODEL} says refused", hint=f"factory gate {run.path}")
    failed = [clause["name"] for clause in clauses(gate) if clause.get("verdict") == "fail"]
    if passed and not failed:
        return None
    return ", ".join(failed) or "nothing shows that the student is right"


def _with_notice(card: bytes) -> bytes:
    """The card with a notice on top, after its front matter."""
    head, end, body = card.partition(b"\n---\n\n")
    notice = FORCED.encode()
    return head + end + notice + body if end else notice + card
