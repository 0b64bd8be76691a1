"""Fixtures that several tests share: small photos, a tiny open_clip checkpoint, a clean environment."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

# Read when the libraries are imported: no hub is asked, and cores are left to the tests that run beside one another.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from support.pictures import draw_shape

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")  # how long an example takes says more of the machine than of the code


TESTS = Path(__file__).parent
CORE = {
    "exporters",
    "gate",
    "label_sources",
    "runtime",
    "students",
    "test_labels.py",
    "test_splits.py",
    "test_statistics.py",
}
"""Folders and files of the core, from words to the exported file: `pytest -m core` runs them in a minute."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`pytest -m core` does not read other tests, which may need more than is installed."""
    part = collection_path.relative_to(TESTS).parts[:1] if collection_path.is_relative_to(TESTS) else ()
    return True if config.option.markexpr == "core" and part and part[0] not in CORE else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what belongs to the core."""
    for item in items:
        if item.path.relative_to(TESTS).parts[0] in CORE and not item.get_closest_marker("slow"):
            item.add_marker("core")


def pytest_configure() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would all that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the user's store, cache or registry, and none may ask a hub."""
    for name in ("REGISTRY", "BY", "EXECUTOR", "SIGNING_KEY", "PUBLIC_KEY", "ENCODER_TOKEN", "ENCODER_INSECURE"):
        monkeypatch.delenv(f"FACTORY_{name}", raising=False)
    monkeypatch.setenv("FACTORY_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("FACTORY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 160 pictures, half discs and half bars, with neutral names and gold.csv beside it."""
    folder = tmp_path_factory.mktemp("shapes")
    (folder / "photos").mkdir()
    rows = ["path,label"]
    for index in range(160):
        shape = ("disc", "bar")[index % 2]
        draw_shape(shape, index).save(folder / "photos" / f"p{index:03d}.png")
        rows.append(f"p{index:03d}.png,{'yes' if shape == 'disc' else 'no'}")
    (folder / "gold.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of a few thousand weights, as a folder that open_clip loads with `local-dir:`."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    torch.manual_seed(0)
    weights = open_clip.CLIP(**config).state_dict()
    folder = tmp_path_factory.mktemp("tiny-clip")
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
    (folder / "open_clip_config.json").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file that the runtime accepts, of a run made up by `make_run`."""
    from support.make_run import make_run

    _, run = make_run(tmp_path_factory.mktemp("fake-run"))
    return run.file("model.onnx")


@pytest.fixture(scope="session")
def exported_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `factory encoders export` writes of `support.tiny_encoders.tiny_encoder()`."""
    from clip_factory.encoders.onnx_export import export_encoder
    from support.tiny_encoders import tiny_encoder

    folder = tmp_path_factory.mktemp("exported") / "encoder"
    export_encoder(tiny_encoder(), folder)
    return folder
