"""Checkpoints that transformers loads: found on the hub or in a folder, safetensors only, with license and key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from clip_factory.errors import TeacherError
from clip_factory.run_folder import sha256_file

HUB, FOLDER = "hf-hub:", "local-dir:"
WEIGHTS = "*.safetensors"
FETCHED = ("*.json", "*.txt", "*.model", "*.jinja", "README.md", WEIGHTS)
"""What is downloaded of a repository: no pickles, and no code."""
UNKNOWN_LICENSE = "unknown: see the model's page"


@dataclass(frozen=True)
class Checkpoint:
    """A model with its configuration, processor and weights, on this machine."""

    name: str
    """As the scenario names it."""
    folder: Path
    """What `from_pretrained` is given."""
    license: str
    """Of the weights, as the model's card says."""
    key: str
    """24 hex digits; changes with the files."""

    @property
    def about(self) -> dict[str, object]:
        """Name and license, as a label source says of itself."""
        return {"name": self.name, "license": self.license}


def find_checkpoint(model: str | None) -> Checkpoint:
    """Find a checkpoint, and download it where it is not cached.

    Args:
        model: `hf-hub:OWNER/NAME`, `hf-hub:OWNER/NAME@REVISION`, or `local-dir:PATH`.

    Raises:
        TeacherError: Nothing is named, it cannot be had, or it has no weights in safetensors files.
    """
    if model and model.startswith(FOLDER):
        return _in_folder(model, Path(model.removeprefix(FOLDER)).expanduser())
    if model and model.startswith(HUB):
        return _of_hub(model, *model.removeprefix(HUB).partition("@")[::2])
    raise TeacherError(
        f"labels.model: {model or 'nothing'} is named, expected hf-hub:OWNER/NAME or local-dir:PATH",
        hint="the first is a repository of the Hugging Face hub, the second a folder with config.json in it",
    )


def _of_hub(model: str, repository: str, revision: str) -> Checkpoint:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(FETCHED)))
    except Exception as error:  # the hub, its network and its cache raise a dozen kinds of errors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TeacherError(
            f"model {model}: cannot be had ({reason})",
            hint="check the name and the network, or name a folder that holds it: local-dir:PATH",
        ) from error
    _check_weights(model, folder)
    # the folder of a snapshot is named by its commit, which stands for the content of all its files
    return Checkpoint(model, folder, _license(folder), _digest([repository, folder.name]))


def _in_folder(model: str, folder: Path) -> Checkpoint:
    if not (folder / "config.json").is_file():
        hint = "name the folder that save_pretrained wrote, or that was downloaded from the hub"
        raise TeacherError(f"model {model}: no config.json in this folder", hint=hint)
    _check_config(model, folder)
    _check_weights(model, folder)
    names = sorted(file for pattern in FETCHED for file in folder.glob(pattern) if file.name != "README.md")
    return Checkpoint(model, folder, _license(folder), _digest([f"{file.name} {sha256_file(file)}" for file in names]))


def _check_config(model: str, folder: Path) -> None:
    try:
        kind = json.loads((folder / "config.json").read_bytes())["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        kind = None
    if not isinstance(kind, str):
        raise TeacherError(
            f"model {model}: its config.json is damaged, or of no model of transformers: it names no model_type",
            hint="name the folder that save_pretrained wrote, or that was downloaded from the hub",
        )


def _check_weights(model: str, folder: Path) -> None:
    if not any(folder.glob(WEIGHTS)):
        raise TeacherError(
            f"model {model}: has no weights in safetensors files",
            hint="pickled weights may run code and are not read: convert them with save_pretrained, or name another",
        )


def _license(folder: Path) -> str:
    """What the model's card states; see https://huggingface.co/docs/hub/model-cards."""
    from huggingface_hub import ModelCard

    try:
        stated = ModelCard.load(folder / "README.md").data
    except Exception:  # no card, or one whose head is no YAML
        return UNKNOWN_LICENSE
    name = stated.get("license_name") if stated.get("license") == "other" else stated.get("license")
    return str(name) if name else UNKNOWN_LICENSE


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
