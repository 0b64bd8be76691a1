"""Checkpoints: found, named by their content, licensed by their card; pickles are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub
import pytest

from clip_factory.errors import TeacherError
from clip_factory.label_sources.checkpoint import UNKNOWN_LICENSE, find_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text('{"model_type": "owlv2"}', encoding="utf-8")
    (made / "model.safetensors").write_bytes(b"weights")
    return made


def license_of(folder: Path, card: str | None) -> str:
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")
    return find_checkpoint(f"local-dir:{folder}").license


@pytest.mark.parametrize(
    ("card", "license"),
    [
        ("---\nlicense: apache-2.0\n---\n# Model\n", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: its-own\n---\n", "its-own"),
        ("---\ntags: [vision]\n---\n", UNKNOWN_LICENSE),
        ("# A card without a head\n", UNKNOWN_LICENSE),
        ("---\nlicense: [\n---\n", UNKNOWN_LICENSE),
        (None, UNKNOWN_LICENSE),
    ],
)
def test_the_card_states_the_license(folder: Path, card: str | None, license: str) -> None:
    assert license_of(folder, card) == license


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_the_key_changes_with_what_is_loaded(folder: Path, name: str) -> None:
    before = find_checkpoint(f"local-dir:{folder}").key

    (folder / name).write_text('{"model_type": "other"}', encoding="utf-8")

    assert find_checkpoint(f"local-dir:{folder}").key != before


def test_the_key_is_the_contents_and_not_the_places(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")

    copy = find_checkpoint(f"local-dir:{tmp_path / 'copy'}")

    assert copy.key == find_checkpoint(f"local-dir:{folder}").key
    assert copy.folder == tmp_path / "copy" and copy.name == f"local-dir:{tmp_path / 'copy'}"


def test_pickles_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    with pytest.raises(TeacherError, match="no weights in safetensors files\n  pickled weights may run code"):
        find_checkpoint(f"local-dir:{folder}")


@pytest.mark.parametrize("model", [None, "", "owlv2", "google/owlv2", "http://host/model"])
def test_what_names_no_checkpoint_is_refused(model: str | None) -> None:
    with pytest.raises(TeacherError, match="expected hf-hub:OWNER/NAME or local-dir:PATH"):
        find_checkpoint(model)


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"no config\.json in this folder"):
        find_checkpoint(f"local-dir:{tmp_path}")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model_type": 3}'])
def test_a_configuration_that_is_damaged_or_foreign_is_named_before_weights_are_missed(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, encoding="utf-8")
    (folder / "model.safetensors").unlink()

    with pytest.raises(TeacherError, match=r"its config\.json is damaged, or of no model of transformers"):
        find_checkpoint(f"local-dir:{folder}")


def test_a_model_that_cannot_be_had_is_named() -> None:
    with pytest.raises(TeacherError) as caught:
        find_checkpoint("hf-hub:nobody/nothing-of-this-name")
    assert "model hf-hub:nobody/nothing-of-this-name: cannot be had (" in str(caught.value)
    assert "or name a folder that holds it: local-dir:PATH" in str(caught.value)


def test_a_cached_model_of_the_hub_is_named_by_its_commit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    cache, keys = tmp_path / "hub", []
    for commit in ("0" * 40, "1" * 40):
        shutil.copytree(folder, cache / "models--owner--name" / "snapshots" / commit)
        (cache / "models--owner--name" / "refs").mkdir(exist_ok=True)
        (cache / "models--owner--name" / "refs" / "main").write_text(commit, encoding="ascii")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(cache))
        checkpoint = find_checkpoint("hf-hub:owner/name")
        assert checkpoint.folder.name == commit and checkpoint.license == "apache-2.0"
        keys.append(checkpoint.key)

    old = find_checkpoint(f"hf-hub:owner/name@{'0' * 40}")

    assert keys[0] != keys[1] and old.key == keys[0]
