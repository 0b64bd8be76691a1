"""From a finished run to a draft: all that the release will hold, read once and checked against the manifest."""

from __future__ import annotations

import getpass
import hashlib
import json
import platform
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clip_factory.errors import RegistryError, RunError
from clip_factory.gate.verdict import State, Verdict
from clip_factory.gate.verdict import read as read_verdict
from clip_factory.registry.backend import PROVENANCE, Draft
from clip_factory.registry.keys import Signer
from clip_factory.registry.release_reader import clauses, load_bytes
from clip_factory.run_folder import CARD, FILES, GATE, MANIFEST, MODEL, REPORT, SCENARIO, SPLITS, RunFolder
from clip_factory.runtime import Model
from clip_factory.runtime.releases.json_fields import loads
from clip_factory.runtime.releases.release_record import one_line
from clip_factory.runtime.safe_text import plain

RELEASED = (MODEL, CARD, MANIFEST, GATE, REPORT, SCENARIO)
"""The files of a release."""
RELEASED_TOO = (SPLITS,)
"""Files that are released where the run has them: those of earlier versions do not."""
FORCED = (
    "> **Published by force.** The gate refused this model; whoever published it knew that and published it all the"
    " same. `gate.json` says which clauses failed.\n\n"
)


NOT_PROVEN = (
    "> **Published although it is not proven.** {by} allowed it. Nothing is broken, and not enough is shown;"
    " `gate.json` says what is missing.\n\n"
)
STATES: tuple[State, ...] = ("refused", "not proven", "passed")
"""The worst first."""
MAX_VERDICT = 2000
"""Characters of a verdict in a message."""


class GateRefusedError(RegistryError):
    """The gate refused the run or the release, and it is not forced."""


class NotProvenError(RegistryError):
    """The gate has too little evidence, and that is not allowed."""


@dataclass(frozen=True)
class PublishOptions:
    """How a run is to be published, and what an alias may stand for."""

    force: bool = False
    """Although the gate refused it."""
    by: str = ""
    """Who publishes, one line; empty: the user and the machine."""
    signer: Signer | None = None
    provenance: bytes | None = None
    """What goes into the release as provenance.json: who made it, from what. See `automation.provenance`."""
    allow_unproven: bool = False
    """Although the gate does not call it proven."""


DEFAULT_OPTIONS = PublishOptions()


def draft_from_run(folder: Path, options: PublishOptions = DEFAULT_OPTIONS) -> Draft:
    """Read a finished run, check it, and make a draft of it.

    Raises:
        RunError: It is no run folder, is not finished, or was altered after it was finished.
        GateRefusedError: The gate refused it, and `options` does not force it.
        NotProvenError: The gate does not call it proven, and `options` does not allow that.
        ModelError: Its model.onnx is not a model of this factory.
    """
    run = RunFolder.open(folder)
    files = _read(run)
    model = _model(run, files)
    verdict = _verdict(run, files[GATE], model)
    by = options.by or current_user()
    _check(folder, verdict, options)
    notice = {"passed": "", "not proven": NOT_PROVEN.format(by=_code_span(by)), "refused": FORCED}[verdict.state]
    files[CARD] = _with_notice(files[CARD], notice)
    kept = {name: files[name] for name in (*RELEASED, *RELEASED_TOO) if name in files}
    return Draft(
        name=model.name,
        question=one_line(model.question),
        threshold=model.threshold,
        passed=verdict.passed,
        forced=verdict.state == "refused",
        created=now(),
        by=by,
        files=kept if options.provenance is None else {**kept, PROVENANCE: options.provenance},
        signer=options.signer,
    )


def now() -> str:
    """This moment: ISO 8601, UTC, with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def current_user() -> str:
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
        if name in RELEASED or name in RELEASED_TOO:
            files[name] = data
    return files


def _model(run: RunFolder, files: dict[str, bytes]) -> Model:
    model = load_bytes(files[MODEL], str(run.file(MODEL)))
    scenario = json.loads(files[MANIFEST]).get("scenario")
    if model.name != scenario:
        raise RunError(f"{run.path}: {MODEL} is of {model.name!r}, the run of {scenario!r}", hint="name the right run")
    return model


def _verdict(run: RunFolder, text: bytes, model: Model) -> Verdict:
    """The verdict of a gate.json, no better than its clauses, which the model file must not contradict.

    Of a run that is refused, the reasons are the names of the clauses that say so.
    """
    gate, again = loads(text, str(run.file(GATE))), f"factory evaluate {run.path}"
    try:
        verdict = read_verdict(gate)
    except (ValueError, AttributeError, TypeError):
        raise RunError(f"{run.file(GATE)} does not say whether the run passed", hint=again) from None
    stamp = _stamped(loads(model.metadata.get("gate", "{}"), f"{run.file(MODEL)}: the gate in it"))
    # the stamp was made before the file had its last size: it may be better than gate.json, never worse
    if stamp is not None and STATES.index(stamp) < STATES.index(verdict.state):
        raise RunError(f"{run.path}: {GATE} says {verdict.state}, {MODEL} says {stamp}", hint=again)
    deciding = [clause for clause in clauses(gate) if clause.get("decides") is not False]
    failed = tuple(str(clause["name"]) for clause in deciding if clause.get("verdict") == "fail")
    if failed or verdict.state == "refused":
        return Verdict("refused", verdict.headline, failed or ("nothing shows that the student is right",))
    if "verdict" in gate and any(clause.get("verdict") != "pass" for clause in deciding):
        return Verdict("not proven", verdict.headline, verdict.reasons)
    return verdict


def _stamped(stamp: Any) -> State | None:
    """The state in a model file; None where it says nothing of one."""
    if not isinstance(stamp, dict):
        return None
    for state in STATES:
        if stamp.get("verdict") == state:
            return state
    passed = stamp.get("passed")  # all that earlier versions wrote
    return None if not isinstance(passed, bool) else "passed" if passed else "refused"


def _check(folder: Path, verdict: Verdict, options: PublishOptions) -> None:
    """Stop where the options are not enough for what the gate says."""
    if verdict.state == "refused" and not options.force:
        raise GateRefusedError(
            f"{folder}: the gate refused this run ({plain(', '.join(verdict.reasons), MAX_VERDICT)})",
            hint="publish it all the same: --force; its card will say so",
        )
    if verdict.state == "not proven" and not options.allow_unproven:
        raise NotProvenError(
            f"{folder}: {plain(' '.join((verdict.headline, *verdict.reasons)), MAX_VERDICT)}",
            hint=f"prove it by answering random test photos: factory review {folder} --prove; "
            "or publish it as it is: --allow-unproven; its card will say so, and who allowed it",
        )


def _with_notice(card: bytes, notice: str) -> bytes:
    """The card with a notice on top, after its front matter."""
    head, end, body = card.partition(b"\n---\n\n")
    return head + end + notice.encode() + body if end else notice.encode() + card


def _code_span(text: str) -> str:
    """A name as a code span of Markdown, in which nothing is read as anything else."""
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}"
