"""`factory publish` and `factory models ...`: verbs that parse, call one function of the registry and print."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from clip_factory.cli import completion
from clip_factory.cli import evaluate_commands as cli_evaluate
from clip_factory.errors import RegistryError
from clip_factory.run_folder import find_run
from clip_factory.runtime.releases.release_index import Entry, Release
from clip_factory.terminal import NOT_PROVEN, REFUSED, err, gate_table, out, plain, table

if TYPE_CHECKING:
    from clip_factory.evaluation.paired import Bout
    from clip_factory.registry import Change, Diff, Move, Registry, Trust

app = typer.Typer(
    name="models",
    help="Find, promote, roll back, pull, verify and compare the models of a registry.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Form(StrEnum):
    """How a registry's contents are printed."""

    table = "table"
    json = "json"


HISTORY_SHOWN = 20


def find(named: Path) -> Path:
    """The run folder that a RUN argument means; said on stderr where it was not named itself.

    Raises:
        RunError: There is no such run.
    """
    found = find_run(named).path
    if found != named:
        err.print(f"run {found}", markup=False)
    return found


def _need(option: typer.CallbackParam, value: str) -> str:
    if not value:
        hint = f"{option.opts[0]} FOLDER or URL, or set FACTORY_REGISTRY"
        raise RegistryError("no registry was named", hint=hint)
    return value


RegistryOption = Annotated[
    str,
    typer.Option(
        "--registry",
        callback=_need,
        help="Folder, s3://, gs://, az://, sftp://, https:// (to read), mlflow+http://, hf://, github://.",
        envvar="FACTORY_REGISTRY",
        metavar="REGISTRY",
        show_default=False,
    ),
]
Reference = Annotated[
    str,
    typer.Argument(
        help="NAME, NAME@VERSION or NAME@ALIAS.",
        metavar="NAME[@VERSION|@ALIAS]",
        show_default=False,
        autocompletion=completion.references,
    ),
]
NameArgument = Annotated[
    str, typer.Argument(help="The model.", metavar="NAME", show_default=False, autocompletion=completion.names)
]
KeyOption = Annotated[
    Path | None,
    typer.Option("--key", help="Private key (PEM) to sign with.", envvar="FACTORY_SIGNING_KEY", metavar="FILE"),
]
PublicOption = Annotated[
    Path | None,
    typer.Option(
        "--public-key",
        help="Refuse what the holder of this key (PEM) has not signed.",
        envvar="FACTORY_PUBLIC_KEY",
        metavar="FILE",
    ),
]
ByOption = Annotated[
    str, typer.Option("--by", help="Who does this; else user@machine.", envvar="FACTORY_BY", metavar="WHO")
]
FormOption = Annotated[Form, typer.Option("--format", help="How to print; json is for programs.")]
AliasArgument = Annotated[
    str,
    typer.Argument(
        help="The alias, such as champion.",
        metavar="ALIAS",
        show_default=False,
        autocompletion=completion.aliases,
    ),
]


def publish(
    run: Annotated[
        Path,
        typer.Argument(
            help="A finished run: its folder, a folder of runs for the newest in it, or `latest`.",
            metavar="RUN",
            show_default=False,
            autocompletion=completion.runs,
        ),
    ],
    registry: Annotated[
        str,
        typer.Option(
            "--to",
            callback=_need,
            help="Folder or URL of the registry.",
            envvar="FACTORY_REGISTRY",
            metavar="REGISTRY",
            show_default=False,
        ),
    ] = "",
    alias: Annotated[str | None, typer.Option("--alias", help="Let this alias stand for it, such as champion.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Although the gate refused it; the card will say so.")] = False,
    allow_unproven: Annotated[
        bool,
        typer.Option("--allow-unproven", help="Although it is not proven; the card will say so."),
    ] = False,
    key: KeyOption = None,
    by: ByOption = "",
) -> None:
    """Publish a run as the next version of its model; the last line printed is NAME@VERSION.

    Exit codes: 1 the gate refused the run, and it was not forced; 4 it is not proven, and that was not allowed.

    Example:  factory publish runs/forklift/2026-11-21T09-00-00 --to registry/ --alias champion
    """
    run = find(run)
    from clip_factory.registry import Signer, Terms, open_registry
    from clip_factory.registry import publish as publish_run

    terms = Terms(force, by, Signer.read(key) if key else None, allow_unproven=allow_unproven)
    with gated():
        done = publish_run(run, open_registry(registry), alias, terms)
    release = done.release
    if not done.new:
        err.print(
            f"{release} has these very bytes already, published {_moment(release.created)} by {plain(release.by)}"
        )
    if alias is not None:
        _print_move(done.move, release, alias)
    out.print(f"{release}", markup=False)


@app.command("list")
def list_models(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A model, to list its versions.", metavar="NAME", show_default=False, autocompletion=completion.names
        ),
    ] = None,
    registry: RegistryOption = "",
    form: FormOption = Form.table,
) -> None:
    """List the models of a registry, or the versions of one model, the newest first.

    Example:  factory models list --registry registry/
    """
    from clip_factory.registry import Reference, open_existing

    index = open_existing(registry).index()
    models = index.models
    if name is not None:
        release = index.find(Reference.parse(name))
        models = {release.name: models[release.name]}
    if form is Form.json:
        for model, entry in models.items():
            _print_json(_listed(model, entry))
    elif name is not None:
        columns = ("version", "aliases", "published", "by", "kB", "threshold", "gate")
        out.print(table(columns, _versions(models[release.name])))
    elif models:
        columns = ("model", "aliases", "newest", "published", "kB", "gate", "question")
        out.print(table(columns, (_row(model, entry) for model, entry in models.items())))
    else:
        out.print("no models yet")


@app.command()
def show(
    reference: Reference, registry: RegistryOption = "", public_key: PublicOption = None, form: FormOption = Form.table
) -> None:
    """Show a release: what it answers, how good it is, and where its aliases came from.

    Example:  factory models show forklift@champion --registry registry/
    """
    from clip_factory.registry import look_at, open_existing
    from clip_factory.registry.release_contents import clauses

    seen = look_at(open_existing(registry), reference, _trust(public_key))
    if form is Form.json:
        history = [move.to_json() for move in seen.history]
        _print_json(_stated(seen.release) | {"aliases": seen.aliases, "gate": seen.gate, "history": history})
        return
    out.print(table(("", ""), _about(seen.release, seen.aliases, signed=seen.signed)))
    out.print()
    if headline := _headline(seen.gate):
        out.print(plain(headline), style="bold")
    out.print(gate_table(clauses(seen.gate)))
    if seen.history:
        out.print()
        columns = ("when", "alias", "from", "to", "why", "by")
        moves = seen.history[-HISTORY_SHOWN:]
        out.print(table(columns, ((_moment(m.when), m.alias, m.before or "", m.after, m.why, m.by) for m in moves)))
    if len(seen.history) > HISTORY_SHOWN:
        out.print(f"and {len(seen.history) - HISTORY_SHOWN} moves before these: --format json has them all")


@app.command()
def promote(
    reference: Reference,
    alias: AliasArgument,
    registry: RegistryOption = "",
    force: Annotated[bool, typer.Option("--force", help="Champion although the gate refused it.")] = False,
    allow_unproven: Annotated[
        bool, typer.Option("--allow-unproven", help="Champion although it is not proven.")
    ] = False,
    public_key: PublicOption = None,
    by: ByOption = "",
) -> None:
    """Let an alias stand for a version; `champion` for one that did not pass only if told to.

    Exit codes: 1 the champion would be one that the gate refused; 4 one that is not proven.

    Example:  factory models promote forklift@3 champion --registry registry/
    """
    from clip_factory.registry import Reference, Terms, open_existing, whoever
    from clip_factory.registry import promote as move_up

    opened, terms = open_existing(registry), Terms(force, allow_unproven=allow_unproven)
    with gated():
        move = move_up(opened, reference, alias, by or whoever(), _trust(public_key), terms)
    release = opened.index().find(Reference.parse(reference))
    _print_move(move, release, alias)
    out.print(f"{release}", markup=False)


@app.command()
def rollback(
    name: NameArgument,
    alias: AliasArgument,
    registry: RegistryOption = "",
    public_key: PublicOption = None,
    by: ByOption = "",
) -> None:
    """Take an alias back to the version that it stood for before; again, and it goes further back.

    Whatever the gate said of that version: it is printed.

    Example:  factory models rollback forklift champion --registry registry/
    """
    from clip_factory.registry import Reference, open_existing, whoever
    from clip_factory.registry import rollback as move_back

    opened = open_existing(registry)
    move = move_back(opened, name, alias, by or whoever(), _trust(public_key))
    release = opened.index().find(Reference(move.name, version=move.after))
    err.print(f"{_moved(move)}, {_gate(release)}")
    out.print(f"{move.name}@{move.after}", markup=False)


@app.command()
def pull(
    reference: Reference,
    registry: RegistryOption = "",
    folder: Annotated[Path, typer.Option("--out", help="Folder for NAME-VERSION/.", metavar="DIR")] = Path(),
    public_key: PublicOption = None,
) -> None:
    """Copy a release to this machine, checked; the last line printed is the path of its model.onnx.

    Example:  factory models pull forklift@champion --registry registry/ --out models/
    """
    from clip_factory.registry import open_existing
    from clip_factory.registry import pull as copy

    out.print(f"{copy(open_existing(registry), reference, folder, _trust(public_key))}", markup=False)


@app.command()
def verify(
    model: Annotated[
        str,
        typer.Argument(
            help="A model file; with a registry, a reference too.",
            metavar="MODEL",
            show_default=False,
            autocompletion=completion.models,
        ),
    ],
    registry: Annotated[
        str | None,
        typer.Option("--registry", help="Check its release there too.", envvar="FACTORY_REGISTRY", metavar="REGISTRY"),
    ] = None,
    public_key: PublicOption = None,
) -> None:
    """Replay a model's test vectors; with a registry, check the signature and the hashes of its release too.

    Example:  factory models verify model.onnx
    """
    from clip_factory.registry import open_existing
    from clip_factory.registry import verify as replay
    from clip_factory.registry import verify_release as check

    done = check(open_existing(registry), model, _trust(public_key)) if registry else replay(Path(model))
    out.print(f"test vectors  answers differ by {done.difference:.2g} at most from those stored in the file")
    if done.release is not None:
        out.print(f"hashes        all {len(done.release.files)} files of {done.release} are as published")
        signed = "of the expected key" if done.signed else "not checked: no key was given, and the registry pins none"
        out.print(f"signature     {signed}")
    out.print(f"ok            {done.release or done.model.name}", markup=False)


@app.command()
def diff(
    before: Reference,
    after: Reference,
    registry: RegistryOption = "",
    public_key: PublicOption = None,
    gold: Annotated[
        Path | None,
        typer.Option(
            "--gold",
            help="Measure both now, by these labels: CSV with the columns path,label.",
            metavar="CSV",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            help="Folder that the paths of the labels start from; else that of the CSV.",
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
    form: FormOption = Form.table,
) -> None:
    """Say which of two versions is better, by people's labels, and what changed from one to the other.

    Example:  factory models diff forklift@2 forklift@3 --registry registry/ --gold truth.csv --images photos/
    """
    from clip_factory.registry import diff as hold
    from clip_factory.registry import open_existing, without_teacher

    opened = open_existing(registry)
    found = hold(opened, before, after, _trust(public_key))
    changes, measured = found.changes, None
    if gold is not None:
        measured = _measure(opened, found, (before, after), gold, images or gold.parent)
        changes = without_teacher(changes, replace(found.recorded, people=True))
    if form is Form.json:
        _print_json({"comparison": _compared(found, measured)})
        for change in changes:
            _print_json(asdict(change))
        return
    if measured is not None:
        cli_evaluate.print_bout(measured)
    else:
        out.print(plain(found.recorded.line), style="bold")
    out.print()
    out.print(table(("what", before, after), map(_change, changes)) if changes else "nothing that is compared differs")


def _measure(registry: Registry, found: Diff, names: tuple[str, str], gold: Path, images: Path) -> Bout:
    from clip_factory.evaluation.candidates import Contender
    from clip_factory.evaluation.paired import by_labels
    from clip_factory.registry.release_contents import read_model

    named = zip(names, found.releases, strict=True)
    return by_labels([Contender(name, read_model(registry, release)) for name, release in named], gold, images)


def _compared(found: Diff, measured: Bout | None) -> dict[str, Any]:
    from clip_factory.evaluation.recorded import as_json

    if measured is not None:
        comparison = measured.comparisons[0]
        return as_json(comparison, measured.line(comparison))
    recorded = found.recorded
    return {"line": recorded.line} if recorded.comparison is None else as_json(recorded.comparison, recorded.line)


@app.command()
def keys(
    folder: Annotated[Path, typer.Argument(help="Folder for the two.", metavar="DIR", show_default=False)],
) -> None:
    """Make a pair of keys: private.pem signs, public.pem checks; keep the first to yourself.

    Example:  factory models keys keys/
    """
    from clip_factory.registry import make_pair

    private, public = make_pair(folder)
    out.print(f"{private}\n{public}", markup=False)


def _trust(public_key: Path | None) -> Trust:
    from clip_factory.registry import Trust

    return Trust.read(public_key)


def _print_json(tree: dict[str, Any]) -> None:
    print(json.dumps(tree, ensure_ascii=False))  # noqa: T201


@contextmanager
def gated() -> Iterator[None]:
    """Leave with the exit code of the verdict where the gate stands in the way."""
    from clip_factory.registry import GateRefusedError, NotProvenError

    try:
        yield
    except GateRefusedError as error:
        _stop("refused", error, REFUSED)
    except NotProvenError as error:
        _stop("not proven", error, NOT_PROVEN)


def _stop(state: str, error: RegistryError, code: int) -> NoReturn:
    err.print(f"{state}: {plain(error.what)}\n  {plain(error.hint)}".rstrip(), style="red")
    raise typer.Exit(code)


def _print_move(move: Move | None, release: Release, alias: str) -> None:
    err.print(_moved(move) if move else f"{alias} of {release.name} stands for version {release.version} already")


def _moved(move: Move) -> str:
    return f"{move.alias} of {move.name}: version {move.before or 'none'} -> {move.after}"


def _listed(name: str, entry: Entry) -> dict[str, Any]:
    versions = [_stated(release) for release in entry.versions.values()]
    return {"name": name, "question": entry.question, "aliases": dict(entry.aliases), "versions": versions}


def _headline(gate: Any) -> str:
    """The sentence that leads the report; empty where the file has none, as one that a stranger wrote."""
    from clip_factory.gate.verdict import read

    try:
        return read(gate).headline
    except (ValueError, AttributeError, TypeError):
        return ""


def _stated(release: Release) -> dict[str, Any]:
    """A release as its record says it, and the state that two of its flags stand for."""
    return release.to_json() | {"state": release.state}


def _row(name: str, entry: Entry) -> tuple[object, ...]:
    newest = entry.versions[max(entry.versions)]
    aliases = ", ".join(f"{alias} {version}" for alias, version in sorted(entry.aliases.items()))
    size = f"{newest.size / 1000:.1f}"
    return name, aliases, newest.version, _moment(newest.created), size, _gate(newest), entry.question


def _versions(entry: Entry) -> Iterable[tuple[object, ...]]:
    for version, one in sorted(entry.versions.items(), reverse=True):
        aliases = ", ".join(entry.aliases_of(version))
        size, threshold = f"{one.size / 1000:.1f}", f"{one.threshold:g}"
        yield version, aliases, _moment(one.created), one.by, size, threshold, _gate(one)


def _about(release: Release, aliases: list[str], *, signed: bool) -> Iterable[tuple[str, object]]:
    mark = "checked" if signed else "not checked" if release.signature else "none"
    return (
        ("model", release),
        ("question", release.question),
        ("aliases", ", ".join(aliases) or "none"),
        ("gate", _gate(release)),
        ("threshold", f"{release.threshold:g}"),
        ("size", f"{release.size / 1000:.1f} kB"),
        ("sha256", release.sha256),
        ("published", f"{_moment(release.created)} by {release.by}"),
        ("signature", mark),
        ("files", ", ".join(sorted(release.files))),
    )


def _moment(when: str) -> str:
    return f"{when[:19].replace('T', ' ')} UTC"


def _gate(release: Release) -> str:
    return "REFUSED, forced" if release.state == "refused" else release.state


def _change(change: Change) -> tuple[object, ...]:
    return change.what, _value(change.before), _value(change.after)


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
