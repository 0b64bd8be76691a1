"""`factory models ...`: find, promote, roll back, pull, verify and compare the models of a registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clip_factory.cli import completion
from clip_factory.cli.diff_command import diff
from clip_factory.cli.options import (
    AliasArgument,
    ByOption,
    Form,
    FormOption,
    NameArgument,
    PublicKeyOption,
    Reference,
    RegistryOption,
)
from clip_factory.cli.registry_output import (
    gate_text,
    gated,
    headline,
    listed,
    model_row,
    moment,
    move_text,
    print_json,
    print_move,
    release_fields,
    release_rows,
    version_rows,
)
from clip_factory.terminal import err, gate_table, out, plain, table

app = typer.Typer(
    name="models",
    help="Find, promote, roll back, pull, verify and compare the models of a registry.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
HISTORY_SHOWN = 20
"""Moves of aliases that are printed."""


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
            print_json(listed(model, entry))
    elif name is not None:
        columns = ("version", "aliases", "published", "by", "kB", "threshold", "gate")
        out.print(table(columns, version_rows(models[release.name])))
    elif models:
        columns = ("model", "aliases", "newest", "published", "kB", "gate", "question")
        out.print(table(columns, (model_row(model, entry) for model, entry in models.items())))
    else:
        out.print("no models yet")


@app.command()
def show(
    reference: Reference,
    registry: RegistryOption = "",
    public_key: PublicKeyOption = None,
    form: FormOption = Form.table,
) -> None:
    """Show a release: what it answers, how good it is, and where its aliases came from.

    Example:  factory models show forklift@champion --registry registry/
    """
    from clip_factory.registry import Trust, open_existing, read_details
    from clip_factory.registry.release_reader import clauses

    seen = read_details(open_existing(registry), reference, Trust.read(public_key))
    if form is Form.json:
        history = [move.to_json() for move in seen.history]
        print_json(release_fields(seen.release) | {"aliases": seen.aliases, "gate": seen.gate, "history": history})
        return
    out.print(table(("", ""), release_rows(seen.release, seen.aliases, signed=seen.signed)))
    out.print()
    if sentence := headline(seen.gate):
        out.print(plain(sentence), style="bold")
    out.print(gate_table(clauses(seen.gate)))
    if seen.history:
        out.print()
        columns = ("when", "alias", "from", "to", "why", "by")
        moves = seen.history[-HISTORY_SHOWN:]
        out.print(table(columns, ((moment(m.when), m.alias, m.before or "", m.after, m.why, m.by) for m in moves)))
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
    public_key: PublicKeyOption = None,
    by: ByOption = "",
) -> None:
    """Let an alias stand for a version; `champion` for one that did not pass only if told to.

    Exit codes: 1 the champion would be one that the gate refused; 4 one that is not proven.

    Example:  factory models promote forklift@3 champion --registry registry/
    """
    from clip_factory.registry import PublishOptions, Reference, Trust, current_user, open_existing
    from clip_factory.registry import promote as move_up

    opened, options = open_existing(registry), PublishOptions(force, allow_unproven=allow_unproven)
    with gated():
        move = move_up(opened, reference, alias, by or current_user(), Trust.read(public_key), options)
    release = opened.index().find(Reference.parse(reference))
    print_move(move, release, alias)
    out.print(f"{release}", markup=False)


@app.command()
def rollback(
    name: NameArgument,
    alias: AliasArgument,
    registry: RegistryOption = "",
    public_key: PublicKeyOption = None,
    by: ByOption = "",
) -> None:
    """Take an alias back to the version that it stood for before; again, and it goes further back.

    Whatever the gate said of that version: it is printed.

    Example:  factory models rollback forklift champion --registry registry/
    """
    from clip_factory.registry import Reference, Trust, current_user, open_existing
    from clip_factory.registry import rollback as move_back

    opened = open_existing(registry)
    move = move_back(opened, name, alias, by or current_user(), Trust.read(public_key))
    release = opened.index().find(Reference(move.name, version=move.after))
    err.print(f"{move_text(move)}, {gate_text(release)}")
    out.print(f"{move.name}@{move.after}", markup=False)


@app.command()
def pull(
    reference: Reference,
    registry: RegistryOption = "",
    folder: Annotated[Path, typer.Option("--out", help="Folder for NAME-VERSION/.", metavar="DIR")] = Path(),
    public_key: PublicKeyOption = None,
) -> None:
    """Copy a release to this machine, checked; the last line printed is the path of its model.onnx.

    Example:  factory models pull forklift@champion --registry registry/ --out models/
    """
    from clip_factory.registry import Trust, open_existing
    from clip_factory.registry import pull as copy

    out.print(f"{copy(open_existing(registry), reference, folder, Trust.read(public_key))}", markup=False)


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
    public_key: PublicKeyOption = None,
) -> None:
    """Replay a model's test vectors; with a registry, check the signature and the hashes of its release too.

    Example:  factory models verify model.onnx
    """
    from clip_factory.registry import Trust, open_existing
    from clip_factory.registry import verify as replay
    from clip_factory.registry import verify_release as check

    done = check(open_existing(registry), model, Trust.read(public_key)) if registry else replay(Path(model))
    out.print(f"test vectors  answers differ by {done.difference:.2g} at most from those stored in the file")
    if done.release is not None:
        out.print(f"hashes        all {len(done.release.files)} files of {done.release} are as published")
        signed = "of the expected key" if done.signed else "not checked: no key was given, and the registry pins none"
        out.print(f"signature     {signed}")
    out.print(f"ok            {done.release or done.model.name}", markup=False)


app.command()(diff)


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
