"""The arguments and options that several commands have, each defined once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from clip_factory.cli import completion
from clip_factory.errors import RegistryError

ENCODERS = "auto, offline, MODEL/WEIGHTS, hf-hub:..., local-dir:..., onnx:DIR, http://..."
"""What an encoder may be named."""


class Form(StrEnum):
    """How figures are printed."""

    table = "table"
    json = "json"


def _named_registry(option: typer.CallbackParam, value: str) -> str:
    if not value:
        hint = f"{option.opts[0]} FOLDER or URL, or set FACTORY_REGISTRY"
        raise RegistryError("no registry was named", hint=hint)
    return value


# What is worked on

Target = Annotated[
    Path,
    typer.Argument(
        help="Scenario file, or a run: its folder, a folder of runs for the newest in it, or `latest`.",
        metavar="SCENARIO.yaml|RUN",
        show_default=False,
        autocompletion=completion.targets,
    ),
]
RunArgument = Annotated[
    Path,
    typer.Argument(
        help="The folder of a run; a folder of runs, or `latest`, for the newest.",
        metavar="RUN",
        show_default=False,
        autocompletion=completion.runs,
    ),
]
ModelArgument = Annotated[
    Path,
    typer.Argument(
        help="The model file, its name in a registry, a run, or `latest`.",
        metavar="MODEL.onnx",
        show_default=False,
        autocompletion=completion.models,
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
AliasArgument = Annotated[
    str,
    typer.Argument(
        help="The alias, such as champion.",
        metavar="ALIAS",
        show_default=False,
        autocompletion=completion.aliases,
    ),
]

# Of the stages

ImagesOption = Annotated[
    Path | None, typer.Option("--images", help="Folder, archive or video; overrides the scenario's.", metavar="DIR")
]
TeacherOption = Annotated[
    str | None,
    typer.Option("--teacher", help=f"{ENCODERS}; overrides the scenario's."),
]
RunsOption = Annotated[Path, typer.Option("--out", help="Folder of runs.", metavar="DIR")]
GoldOption = Annotated[
    Path | None, typer.Option("--gold", help="CSV of labels from a person: columns path,label (yes/no).", metavar="CSV")
]
ResumeOption = Annotated[
    bool, typer.Option("--resume/--fresh", help="Go on with a run of this scenario that was cut short, or start anew.")
]
GoOnOption = Annotated[bool, typer.Option("--go-on", help="Train even on labels that carry nothing.")]
AllowUnprovenOption = Annotated[
    bool, typer.Option("--allow-unproven", help="Exit with 0 also where the verdict is `not proven`.")
]
StoreOption = Annotated[
    Path | None,
    typer.Option("--store", help="Folder where image vectors are kept.", envvar="FACTORY_STORE", metavar="DIR"),
]

# Of folders of photos

PhotosArgument = Annotated[
    Path,
    typer.Argument(help="Folder or archive of photos.", metavar="FOLDER", show_default=False),
]
EncoderOption = Annotated[str, typer.Option("--encoder", help=ENCODERS)]

# Of evaluations

FormOption = Annotated[Form, typer.Option("--format", help="How to print; json is for programs.")]
LabeledImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--images",
        help="Folder that the paths of the labels start from. Else that of a run's photos, else that of the labels.",
        metavar="DIR",
        show_default=False,
    ),
]

# Of registries

RegistryOption = Annotated[
    str,
    typer.Option(
        "--registry",
        callback=_named_registry,
        help="Folder, s3://, gs://, az://, sftp://, https:// (to read), mlflow+http://, hf://, github://.",
        envvar="FACTORY_REGISTRY",
        metavar="REGISTRY",
        show_default=False,
    ),
]
TargetRegistryOption = Annotated[
    str,
    typer.Option(
        "--registry",
        "--to",
        callback=_named_registry,
        help="Folder or URL of the registry; --to is the same.",
        envvar="FACTORY_REGISTRY",
        metavar="REGISTRY",
        show_default=False,
    ),
]
LookupOption = Annotated[
    str | None,
    typer.Option(
        "--registry",
        help="Folder or URL; MODEL.onnx is then NAME, NAME@VERSION or NAME@ALIAS. "
        "Else $FACTORY_REGISTRY, for a name that is no file.",
        metavar="REGISTRY",
        show_default=False,
    ),
]
LookupKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--public-key",
        help="Refuse a release not signed by this key; else $FACTORY_PUBLIC_KEY.",
        metavar="FILE",
        show_default=False,
    ),
]
SigningKeyOption = Annotated[
    Path | None,
    typer.Option("--key", help="Private key (PEM) to sign with.", envvar="FACTORY_SIGNING_KEY", metavar="FILE"),
]
PublicKeyOption = Annotated[
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
