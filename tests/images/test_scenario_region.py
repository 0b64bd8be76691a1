"""The key `region` of a scenario: what it may say, how its mask is read, and what people are told of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import ExifTags, Image

from clip_factory.errors import ScenarioError
from clip_factory.images.scenario_region import read_mask, scenario_region, small_regions, warning
from clip_factory.run_request import open_run
from clip_factory.runtime.region import MAX_CELLS, Region
from clip_factory.scenario import RegionMask, dump, load, parse, stamped

PLAIN = "name: door\npositive: [open door]\n"


def test_a_box_and_a_mask_are_read_and_written_again(tmp_path: Path) -> None:
    boxed = parse(PLAIN + "region: [0.4, 0.3, 0.25, 0.5]\n")
    assert scenario_region(boxed) == Region((0.4, 0.3, 0.25, 0.5))
    assert parse(dump(boxed)) == boxed
    (tmp_path / "door.yaml").write_text(PLAIN + "region: {mask: masks/door.png}\n", encoding="utf-8")
    masked = load(tmp_path / "door.yaml")
    assert masked.region == RegionMask(mask=str(tmp_path / "masks" / "door.png")), "from the scenario file on"
    assert parse(dump(masked)) == masked
    assert json.loads(stamped(masked))["region"] == {"mask": "door.png"}, "a model travels without the paths"
    assert parse(stamped(masked)).region == RegionMask(mask="door.png")


def test_a_scenario_without_a_region_is_written_as_before_there_were_any() -> None:
    scenario = parse(PLAIN)
    assert scenario.region is None
    assert "region" not in dump(scenario)
    assert "region" not in stamped(scenario)
    assert "region" not in scenario.model_dump()
    assert scenario_region(scenario) is None
    assert scenario_region(parse(PLAIN + "region: [0, 0, 1, 1]\n")) is None


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ("[100, 50, 640, 480]", "not pixels"),
        ("[0.5, 0.5, 0.6, 0.2]", "reaches beyond the photo"),
        ("[0.5, 0.5, 0.5]", "must be four numbers"),
        ("door.png", "or a mask, as {mask: door.png}"),
        ("{mask: door.txt}", "is no .png or"),
        ("{box: [0, 0, 1, 1]}", "unknown key; known here: mask"),
        ("{mask: a.png, at: [0, 0, 1, 1]}", "region.at: unknown key; known here: mask"),
        ("{}", "is required and missing"),
    ],
)
def test_what_is_wrong_with_a_region_is_said_once_and_with_its_line(region: str, words: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(PLAIN + f"region: {region}\n", "door.yaml")
    lines = [line for line in caught.value.what.splitlines() if line.startswith("door.yaml:3: region")]
    assert lines
    assert words in caught.value.what
    assert len(caught.value.what.splitlines()) == (2 if "box" in region else 1), "of the branch that was meant alone"


def test_a_mask_is_made_small_by_the_mean_of_its_pixels(tmp_path: Path) -> None:
    pixels = np.zeros((512, 1024), np.uint8)
    pixels[128:256, 256:512] = 255
    pixels[256:260, 256:512:2] = 255  # half of each cell, exactly at the limit
    Image.fromarray(pixels).save(tmp_path / "door.png")
    region = read_mask(tmp_path / "door.png")
    assert region is not None
    assert region.box == (0.25, 0.25, 0.25, 0.25 + 1 / MAX_CELLS)
    assert region.mask is None, "all of the box is white"
    pixels[128:192, 256:384] = 127
    Image.fromarray(pixels).save(tmp_path / "gray.png")
    gray = read_mask(tmp_path / "gray.png")
    assert gray is not None
    assert gray.mask is not None
    assert not gray.mask.cells[:16, :16].any()
    assert gray.mask.cells[16:, 16:].all()


@pytest.mark.parametrize("outside", [(0, 0, 0, 0), (255, 255, 255, 0)])
def test_what_is_transparent_in_a_mask_is_not_seen(tmp_path: Path, outside: tuple[int, int, int, int]) -> None:
    mask = Image.new("RGBA", (64, 32), outside)
    mask.paste((255, 255, 255, 255), (16, 8, 48, 24))
    mask.save(tmp_path / "layer.png")
    assert read_mask(tmp_path / "layer.png") == Region((0.25, 0.25, 0.5, 0.5))

    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # a quarter to the right
    mask.crop((0, 0, 48, 32)).save(tmp_path / "turned.png", exif=exif)
    turned = read_mask(tmp_path / "turned.png")
    assert turned == Region((0.25, 16 / 48, 0.5, 32 / 48))


def test_a_mask_that_leaves_nothing_out_is_no_region(tmp_path: Path) -> None:
    Image.new("L", (64, 32), 128).save(tmp_path / "gray.png")
    assert read_mask(tmp_path / "gray.png") is None


def test_a_small_mask_stays_as_it_is_and_is_upright(tmp_path: Path) -> None:
    cells = np.random.default_rng(0).random((5, 8)) < 0.5
    cells[0, 0] = cells[-1, -1] = True
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    Image.fromarray(cells[::-1, ::-1].astype(np.uint8) * 255).save(tmp_path / "turned.png", exif=exif)
    assert read_mask(tmp_path / "turned.png") == Region.of_cells(cells)


def test_a_mask_that_is_gone_black_or_no_picture_is_refused_before_any_work(tmp_path: Path) -> None:
    Image.new("L", (20, 20)).save(tmp_path / "black.png")
    (tmp_path / "text.png").write_text("no picture", encoding="utf-8")
    for name, words in (("gone", "no such file"), ("black", "nothing in it is white"), ("text", "not an image")):
        with pytest.raises(ScenarioError, match=words):
            read_mask(tmp_path / f"{name}.png")
    from clip_factory import api

    (tmp_path / "photos").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "photos" / "a.png")
    text = PLAIN + "teacher: {model: offline}\nimages: {path: photos}\nregion: {mask: black.png}\n"
    (tmp_path / "door.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError, match="nothing in it is white"):
        api.run(tmp_path / "door.yaml", runs=tmp_path / "runs", store=tmp_path / "store")
    assert not list((tmp_path / "runs").rglob("images.parquet"))


def test_the_mask_of_a_scenario_in_python_starts_at_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clip_factory.run_request import Overrides

    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "photos" / "a.png")
    scenario = parse(PLAIN + "teacher: {model: offline}\nimages: {path: photos}\nregion: {mask: door.png}\n")
    with open_run(scenario, Overrides(), tmp_path / "runs", tmp_path / "store", resume=False) as run:
        assert load(run.file("scenario.yaml")).region == RegionMask(mask=str(tmp_path / "door.png"))


def test_photos_whose_region_is_small_are_counted() -> None:
    rows = [(64, 64, None), (640, 480, None), (40, 4000, None), (10, 10, "empty file")]
    table = pa.table(dict(zip(("width", "height", "reason"), map(list, zip(*rows, strict=True)), strict=True)))
    assert small_regions(table, Region((0.0, 0.0, 0.5, 0.5))) == 1, "32 pixels of 64 are enough, 20 of 40 are not"
    assert warning(1, 3).startswith("warning: of 1 of 3 photos the region is smaller than 32 pixels")
