"""Pages and card of a run that looks at a region: what they show, what they say, and that the card's programs crop."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clip_factory.exporters.onnx_metadata import update
from clip_factory.report import write_card, write_report
from clip_factory.report.embedded_images import tile
from clip_factory.report.region_view import region_view
from clip_factory.run_folder import CARD, MODEL, REPORT, RunFolder
from clip_factory.runtime import Model
from clip_factory.runtime.model_checks import PREPROCESSING, REGION_RESIZE
from clip_factory.runtime.region import Region
from clip_factory.scenario import Scenario
from support.make_run import SIZE, RunKind, make_run

BOX = (0.5, 0.25, 0.4, 0.5)
CELLS = np.random.default_rng(2).random((9, 14)) < 0.6


@pytest.fixture
def made(tmp_path: Path) -> tuple[Scenario, RunFolder]:
    """A finished run whose scenario and model know a box."""
    scenario, run = make_run(tmp_path, RunKind(images=60))
    see(run, Region(BOX))
    return scenario.model_copy(update={"region": BOX}), run


def see(run: RunFolder, region: Region) -> None:
    known = {"decode": "upright RGB", **PREPROCESSING, "resize": REGION_RESIZE, "size": SIZE}
    update(run.file(MODEL), {"preprocessing": json.dumps(known | {"region": region.to_json()})})


def embedded(html: str, pattern: str) -> list[Image.Image]:
    uris = re.findall(pattern + r'[^>]*>\s*<img src="data:image/jpeg;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(uri))) for uri in uris]


def test_the_report_shows_regions_and_one_whole_photo_with_its_region(made: tuple[Scenario, RunFolder]) -> None:
    scenario, run = made
    write_report(scenario, run)
    html = run.file(REPORT).read_text(encoding="utf-8")
    assert "50 to 90 % of the width, 25 to 75 % of the height" in html
    (whole,) = embedded(html, '<figure class="whole"')
    photos = embedded(html, '<figure class="photo"')
    root = Path(scenario.images.path or "")
    sizes = {Image.open(file).size for file in root.rglob("*.jpg")}
    assert whole.size in sizes
    assert photos
    for photo in photos:
        assert any(abs(photo.width / photo.height - 0.8 * w / h) < 0.05 for w, h in sizes), "0.4 w to 0.5 h"
    path = next(iter(sorted(root.rglob("*.jpg"))))
    shown = tile(root, path.relative_to(root).as_posix(), region=Region(BOX))
    expected = Image.open(path).convert("RGB").crop(Region(BOX).pixels(*Image.open(path).size))
    assert shown is not None
    assert np.array_equal(shown, expected)


def test_a_report_of_whole_photos_says_nothing_of_regions(tmp_path: Path) -> None:
    scenario, run = make_run(tmp_path, RunKind(images=60))
    write_report(scenario, run)
    html = run.file(REPORT).read_text(encoding="utf-8")
    assert "Where it looks" not in html
    assert 'id="region"' not in html
    write_card(scenario, run)
    assert "the *whole* of it squashed (not cropped) to" in run.file(CARD).read_text(encoding="utf-8")


@pytest.mark.parametrize("cells", [None, CELLS], ids=["box", "mask"])
def test_what_lies_outside_of_the_region_is_dim_in_the_whole_photo(cells: np.ndarray | None, tmp_path: Path) -> None:
    photo = Image.new("RGB", (400, 300), (200, 150, 100))
    photo.save(tmp_path / "a.png")
    region = Region(BOX) if cells is None else Region.of_cells(np.pad(cells, 1))
    assert region is not None
    view = region_view(region, tmp_path, ["gone.png", "a.png"])
    assert view is not None
    assert view.path == "a.png", "the first that can be read"
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(view.uri.partition(",")[2]))).convert("RGB"), int)
    left, top, right, bottom = region.pixels(400, 300)
    seen = np.zeros((300, 400), bool)
    seen[top:bottom, left:right] = True if region.mask is None else region.mask.stretched(right - left, bottom - top)
    inner = np.zeros_like(seen)
    inner[top + 8 : bottom - 8, left + 8 : right - 8] = True
    outer = np.ones_like(seen)
    outer[top - 8 : bottom + 8, left - 8 : right + 8] = False
    assert abs(np.median(shown[seen & inner], axis=0) - (200, 150, 100)).max() <= 4
    assert abs(np.median(shown[outer], axis=0) - (80, 60, 40)).max() <= 4
    if region.mask is not None:
        assert abs(np.median(shown[~seen & inner], axis=0) - (80, 60, 40)).max() <= 12
    assert region_view(None, tmp_path, ["a.png"]) is None
    gone = region_view(region, tmp_path, ["gone.png"])
    assert gone is not None
    assert (gone.path, gone.uri) == ("", "")


@pytest.mark.parametrize("region", [Region(BOX), Region.of_cells(CELLS)], ids=["box", "mask"])
def test_the_programs_of_the_card_look_at_the_region(
    made: tuple[Scenario, RunFolder], region: Region, tmp_path: Path
) -> None:
    scenario, run = made
    see(run, region)
    write_card(scenario, run)
    card = run.file(CARD).read_text(encoding="utf-8")
    assert region.says.replace("%", "%") in card
    assert "*whole*" not in card
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (91, 143, 3), dtype=np.uint8))
    other = Image.new("RGB", photo.size, "black")
    box = region.pixels(*photo.size)
    other.paste(photo.crop(box), box[:2])
    expected = Model.load(run.file(MODEL)).predict(other).probability
    other.save(run.file("photo.jpg"), "PNG")
    other.save(run.file("other.png"))
    snippets = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        done = subprocess.run(
            [sys.executable, "-c", snippet], cwd=run.path, capture_output=True, text=True, check=False
        )
        assert done.stderr == ""
        printed = [float(number) for number in re.findall(r"\d\.\d{3,}", done.stdout)]
        assert any(number == pytest.approx(expected, abs=1e-5) for number in printed), done.stdout
    (native,) = re.findall(r"```cpp\n(.*?)```", card, re.DOTALL)
    assert "image = squash(squash(region(image)));" in native
    assert native.count("{") == native.count("}")


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
@pytest.mark.parametrize("region", [Region(BOX), Region.of_cells(CELLS)], ids=["box", "mask"])
def test_the_javascript_of_the_card_crops_as_the_runtime_does(
    made: tuple[Scenario, RunFolder], region: Region, tmp_path: Path
) -> None:
    scenario, run = made
    see(run, region)
    write_card(scenario, run)
    (snippet,) = re.findall(r"```js\n(.*?)```", run.file(CARD).read_text(encoding="utf-8"), re.DOTALL)
    constants = "\n".join(re.findall(r"^const (?!session).*", snippet, re.MULTILINE))
    (crop,) = re.findall(r"^function regionOf.*?^}", snippet, re.MULTILINE | re.DOTALL)
    photo = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    call = f"regionOf(Uint8ClampedArray.from({photo.ravel().tolist()}), 53, 37)"
    program = f"{constants}\n{crop}\nconst part = {call};\n"
    (tmp_path / "c.mjs").write_text(program + "console.log(JSON.stringify([part.width, part.height, [...part.rgb]]))")
    done = subprocess.run(["node", str(tmp_path / "c.mjs")], capture_output=True, text=True, check=True)
    width, height, pixels = json.loads(done.stdout)
    expected = np.asarray(region.crop(Image.fromarray(photo)))
    assert np.array_equal(np.array(pixels).reshape(height, width, 3), expected)
    (tmp_path / "whole.mjs").write_text(snippet)
    assert subprocess.run(["node", "--check", str(tmp_path / "whole.mjs")], check=False).returncode == 0
