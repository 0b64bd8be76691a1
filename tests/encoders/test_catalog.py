"""What the catalog says of open_clip's models, and which of them `auto` takes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import open_clip
import pytest
import torch

from clip_factory import encoders
from clip_factory.encoders import auto
from clip_factory.encoders import open_clip as room
from clip_factory.encoders.encoder_catalog import FACTS, UNKNOWN_LICENSE, CatalogEntry, catalog, weights_license
from clip_factory.scenario import Teacher

ROOT = Path(__file__).parents[2]
PAIRS = open_clip.list_pretrained()
ENTRIES = {entry.name: entry for entry in catalog()}
CHOSEN = [choice.teacher for choice in auto.CHOICES.values()]


@pytest.fixture(scope="module")
def facts() -> dict:
    return json.loads(FACTS.read_text(encoding="utf-8"))


def repository(model: str, tag: str) -> str:
    return os.path.dirname(open_clip.get_pretrained_cfg(model, tag)["hf_hub"])


# --- what is in it


def test_every_pair_of_open_clip_is_in_it_and_offline_and_nothing_else() -> None:
    assert [(one.model, one.pretrained) for one in catalog()] == [("offline", None), *PAIRS]


def test_a_name_is_what_the_command_line_reads() -> None:
    for entry in ENTRIES.values():
        assert Teacher.parse(entry.name) == Teacher(model=entry.model, pretrained=entry.pretrained)


def test_figures_of_some_models() -> None:
    one = ENTRIES["ViT-B-32-256/datacomp_s34b_b86k"]

    assert (one.parameters_m, one.gflops, one.image_size, one.top1) == (151.29, 11.5, 256, 0.7281)
    assert (one.license, one.commercial, one.speed) == ("MIT", True, "fast")
    assert ENTRIES["ViT-L-14-336/openai"].image_size == 336
    assert ENTRIES["MobileCLIP2-S2/dfndr2b"].commercial is False
    assert ENTRIES["ViT-H-14/dfn5b"].commercial is False
    assert ENTRIES["ViT-L-14/metaclip_400m"].commercial is False
    assert ENTRIES["ViT-B-16-SigLIP2/webli"].license == "Apache-2.0"
    assert ENTRIES["PE-Core-S-16-384/meta"].top1 is None, "no source that we could read states it"


def test_the_offline_encoder() -> None:
    entry, encoder = ENTRIES["offline"], encoders.load_encoder(Teacher(model="offline"))

    assert (entry.license, entry.image_size) == (encoder.license, encoder.image_size)
    assert entry.cached and entry.commercial
    assert entry.parameters_m == pytest.approx(sum(p.numel() for p in encoder.network.parameters()) / 1e6, rel=0.001)


def test_the_name_of_the_activation_changes_no_figure() -> None:
    for entry in ENTRIES.values():
        if (twin := ENTRIES.get(entry.name.replace("-quickgelu/", "/"))) is not None:
            assert replace(entry, model=twin.model) == twin


@pytest.mark.parametrize("model", ["RN50", "ViT-B-32-256", "PE-Core-T-16-384"])
def test_parameters_are_those_of_the_network(model: str) -> None:
    logging.disable(logging.WARNING)  # open_clip warns that the network has no weights
    with torch.device("meta"):
        network = open_clip.create_model(model, device="meta")
    logging.disable(logging.NOTSET)
    entry = next(one for one in ENTRIES.values() if one.model == model)

    assert entry.parameters_m == pytest.approx(sum(p.numel() for p in network.parameters()) / 1e6, rel=0.03)
    assert entry.image_size == room._image_size(network)


@pytest.mark.parametrize(
    ("gflops", "speed"), [(20, "fast"), (20.1, "medium"), (200, "medium"), (200.1, "slow"), (None, None)]
)
def test_speed_goes_by_the_work_for_one_image(gflops: float | None, speed: str | None) -> None:
    assert replace(ENTRIES["offline"], gflops=gflops).speed == speed


def test_a_model_without_facts_is_listed_without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "test-new", {"t": {"hf_hub": "nobody/new/"}})
    monkeypatch.setattr(open_clip, "get_model_config", lambda _: {"vision_cfg": {"image_size": [96, 64]}})

    entry = next(one for one in catalog() if one.model == "test-new")
    assert entry == CatalogEntry("test-new", "t", None, None, 96, None, UNKNOWN_LICENSE, None, cached=False)


def test_nothing_of_torch_is_imported_before_it_is_asked() -> None:
    code = (
        "import sys, clip_factory.encoders.encoder_catalog; print('torch' in sys.modules, 'open_clip' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "factory")}
    )

    assert result.stdout == "False False\n", result.stderr


# --- the file of facts


def test_the_facts_name_only_what_exists(facts: dict) -> None:
    models = {model for source in facts["models"].values() for model in source}
    names = {name for source in facts["top1"].values() for name in source}

    assert models <= {entry.model for entry in ENTRIES.values()}
    assert names <= ENTRIES.keys()


def test_every_fact_has_one_source_that_is_named(facts: dict) -> None:
    for kind in ("models", "top1"):
        named = [name for source in facts[kind].values() for name in source]
        assert len(named) == len(set(named)), "no figure is given twice"
    used = {*facts["models"], *facts["top1"], *(one for entry in facts["licenses"] for one in entry["sources"])}

    assert used == facts["sources"].keys()


def test_every_model_has_its_size_and_most_their_accuracy() -> None:
    assert [one.name for one in ENTRIES.values() if not one.parameters_m or not one.gflops] == []
    shares = [one.top1 for one in ENTRIES.values() if one.top1 is not None]

    assert all(0 < share < 0.9 for share in shares)
    assert len(shares) > 0.85 * len(ENTRIES)


def test_weights_match_one_license_each_and_every_pattern_some(facts: dict) -> None:
    used = set()
    for model, tag in PAIRS:
        hits = [one for entry in facts["licenses"] for one in entry["hub"] if fnmatchcase(repository(model, tag), one)]
        assert len(hits) == 1, (model, tag, hits)
        used.update(hits)

    assert used == {one for entry in facts["licenses"] for one in entry["hub"]}


@pytest.mark.parametrize(
    ("config", "license"),
    [
        ({"hf_hub": "apple/X/", "license": "mit"}, ("MIT", True)),
        ({"hf_hub": "laion/CLIP-X/", "license": "cc-by-nc-4.0"}, ("CC-BY-NC-4.0", False)),
        ({"hf_hub": "laion/CLIP-X/", "license": "house rules"}, ("house rules", None)),
        ({"hf_hub": "laion/CLIP-X/weights.bin"}, ("MIT", True)),
        ({"hf_hub": "nobody/CLIP-X/"}, (UNKNOWN_LICENSE, None)),
        ({}, (UNKNOWN_LICENSE, None)),
    ],
)
def test_what_open_clip_states_of_a_license_goes_first(
    config: dict, license: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda *_: config)

    assert weights_license("x", "y") == license


# --- what is on this machine


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a file into an empty cache of the hub, laid out as huggingface_hub does."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    def put(repository: str, name: str) -> None:
        folder, commit = tmp_path / f"models--{repository.replace('/', '--')}", "0" * 40
        for path, content in {f"blobs/{name}": b"weights", "refs/main": commit.encode()}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        (folder / "snapshots" / commit).mkdir(parents=True)
        (folder / "snapshots" / commit / name).symlink_to(f"../../blobs/{name}")

    return put


def cached() -> list[str]:
    return [entry.name for entry in catalog() if entry.cached and entry.model != "offline"]


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_weights_are_cached_once_their_file_is_there(put: Callable[[str, str], None], name: str) -> None:
    assert cached() == []
    put("timm/PE-Core-L-14-336", "open_clip_config.json")
    put("laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K", name)

    assert cached() == ["ViT-B-32-256/datacomp_s34b_b86k"]


def test_weights_whose_file_open_clip_names_are_found_under_that_name(put: Callable[[str, str], None]) -> None:
    put("jienengchen/ViTamin-S", "pytorch_model.bin")
    put("jienengchen/ViTamin-B", "open_clip_pytorch_model.bin")

    assert cached() == ["ViTamin-S/datacomp1b"]


# --- auto


def test_what_auto_takes_exists_and_may_be_used_commercially() -> None:
    for teacher in CHOSEN:
        assert (teacher.model, teacher.pretrained) in PAIRS
        assert ENTRIES[teacher.name].commercial is True
        assert ENTRIES[teacher.name].license != UNKNOWN_LICENSE


@pytest.mark.parametrize("device", auto.CHOICES)
def test_the_choice_follows_from_the_published_figures(device: auto.Device) -> None:
    teacher, gflops, parameters = auto.CHOICES[device]
    fit = [
        one
        for one in ENTRIES.values()
        if one.commercial and one.top1 and one.gflops <= gflops and one.parameters_m <= parameters
    ]

    assert max(fit, key=lambda one: one.top1).name == teacher.name


def test_without_a_gpu_it_is_fast() -> None:
    assert ENTRIES[auto.RECOMMENDED.name].speed == "fast"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Stand in for a GPU of so many bytes, None for no GPU, and for the weights that can be had."""

    def machine(gpu: int | None, *available: Teacher) -> None:
        class Properties:
            total_memory = gpu

        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)
        monkeypatch.setattr(room, "weights_available", lambda teacher: teacher in available)

    return machine


CPU, GPU = auto.CHOICES["cpu"].teacher, auto.CHOICES["cuda"].teacher


@pytest.mark.parametrize(
    ("memory", "teacher"), [(None, CPU), (auto.GPU_BYTES - 1, CPU), (auto.GPU_BYTES, GPU), (80 * 10**9, GPU)]
)
def test_auto_goes_by_the_gpu(machine: Callable[..., None], memory: int | None, teacher: Teacher) -> None:
    machine(memory, CPU, GPU)

    assert auto.recommended() == teacher
    assert encoders.resolve(Teacher(batch_size=7)) == (teacher.model_copy(update={"batch_size": 7}), None)


def test_where_the_gpus_choice_cannot_be_had_the_smaller_one_labels(machine: Callable[..., None]) -> None:
    machine(80 * 10**9, CPU)
    chosen, warning = encoders.resolve(Teacher(batch_size=7))

    assert chosen == CPU.model_copy(update={"batch_size": 7})
    assert warning == f"the recommended teacher {GPU.name} is neither cached nor reachable: labeling with {CPU.name}"


@pytest.mark.parametrize(("memory", "teacher"), [(None, CPU), (80 * 10**9, GPU)])
def test_where_nothing_can_be_had_offline_labels(
    machine: Callable[..., None], memory: int | None, teacher: Teacher
) -> None:
    machine(memory, *(() if memory else (GPU,)))
    chosen, warning = encoders.resolve(Teacher(batch_size=7))

    assert chosen == Teacher(model="offline", batch_size=7)
    assert warning.startswith(f"the recommended teacher {teacher.name} is neither cached nor reachable: ")
    assert "`offline`" in warning


def test_the_page_says_what_auto_takes() -> None:
    page = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    said = {line.split("`")[1]: [cell.strip() for cell in line.split("|")[2:-1]] for line in rows if "/" in line}

    assert {teacher.name for teacher in CHOSEN} <= said.keys()
    for name, (top1, gflops, parameters, license, _) in said.items():
        entry = ENTRIES[name]
        assert (top1, gflops, parameters) == (f"{entry.top1:.1%}", f"{entry.gflops:.1f}", f"{entry.parameters_m:.0f}")
        assert license == entry.license.partition(" (")[0]
