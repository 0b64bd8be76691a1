"""What docs/runtime.md says can be typed in, as it stands there."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clip_factory.runtime.score_histogram import read_scores
from support.red_model import save
from support.releases import keep, release_of, write

PAGE = (Path(__file__).parents[2] / "docs" / "runtime.md").read_text(encoding="utf-8")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, photos, a key and a registry that holds the model signed by it."""
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    monkeypatch.chdir(tmp_path)
    model = save(Path("forklift.onnx"), name="forklift", score_histogram=json.dumps([15] * 20)).read_bytes()
    Path("model.onnx").write_bytes(model)
    Path("photos").mkdir()
    Path("other.onnx").write_bytes(save(Path("renamed.onnx"), name="other").read_bytes())
    for name in ("a.jpg", "b.png", "photos/c.png"):
        Image.new("RGB", (20, 30), "tomato").save(name)
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    Path("public.pem").write_bytes(public)
    plain = release_of(model, 1, name="forklift")
    Path("registry").mkdir()
    keep(Path("registry"), model)
    signature = base64.b64encode(private.sign(plain.canonical())).decode()
    write(Path("registry"), replace(plain, signature=signature))
    return tmp_path


def test_the_programs_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = Image.new("RGB", (9, 9), "tomato")
    names: dict[str, Any] = {"pil_image": image, "array": np.asarray(image), "images": [image]}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block.replace("https://models.example.org", "registry"), names)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["photos/c.png", "yes"]]
    assert [one.label for one in (names["one"], *names["several"])] == ["yes"] * 5
    assert [one.path for one in (names["one"], *names["several"])] == ["a.jpg", "a.jpg", None, None, None]
    assert str(names["model"].release) == "forklift@1"
    assert read_scores("scores.json", names["model"].sha256).counts.sum() == 1


def test_the_commands_run(place: Path) -> None:
    commands = re.findall(r"^    (factory .*?)(?:  #.*)?$", PAGE, re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["predict", "predict", "predict", "predict", "drift"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for command in commands:
        arguments = command.replace("https://models.example.org", "registry").split()[1:]
        run = [sys.executable, "-m", "clip_factory", *arguments]
        done = subprocess.run(run, capture_output=True, text=True, check=False, env=environment)
        told = "unsure: 0 of 1 photos\ncopied 0 photos to look\n" if "--only" in command else ""
        assert (done.returncode, done.stderr) == (0, told), command
    assert Path("both.csv").read_text(encoding="utf-8").startswith("path,forklift probability,forklift label,other ")
    assert done.stdout.startswith("There are too few photos to say whether the inputs have moved.")
