"""The region of a photo: the same pixels as Pillow crops, however the photo is stored; and models that see one."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps
from typer.testing import CliRunner

from clip_factory.cli.main import app
from clip_factory.runtime import Model, ModelError, ScoreHistogram, iter_predict_all, read_rgb, to_square
from clip_factory.runtime.model_checks import PREPROCESSING, REGION_RESIZE
from clip_factory.runtime.preprocessing import load_square
from clip_factory.runtime.region import FILL, MAX_CELLS, Mask, Region, box_fault
from support.red_model import METADATA, save

DOOR = Region((0.25, 0.1, 0.3, 0.6))


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def test_a_region_is_what_pillow_crops() -> None:
    photo = noise(200, 100)
    cropped = photo.crop((50, 10, 110, 70))
    assert DOOR.pixels(200, 100) == (50, 10, 110, 70)
    assert np.array_equal(read_rgb(encoded(photo), region=DOOR), cropped)
    assert np.array_equal(read_rgb(photo, region=DOOR), cropped), "a picture in memory, too"
    assert np.array_equal(load_square(np.asarray(photo), 32, DOOR), to_square(cropped, 32))
    assert np.array_equal(load_square(photo, 32), to_square(photo, 32)), "the whole, without a region"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_region_is_of_the_upright_photo(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(noise(60, 40), exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    left, top, right, bottom = DOOR.pixels(upright.width, upright.height)
    assert np.array_equal(read_rgb(data, region=DOOR), upright.convert("RGB").crop((left, top, right, bottom)))


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_is_decoded_at_a_size_that_leaves_the_region_its_pixels(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(noise(1600, 1200), "JPEG", exif=exif)
    small = Region((0.4, 0.4, 0.1, 0.1))
    part, whole = read_rgb(data, min_side=16, region=small), read_rgb(data, min_side=16)
    assert min(whole.size) < 200, "without a region it is decoded at an eighth"
    assert sorted(part.size) == [60, 80], "at a half: twice the 16 pixels that are asked for, and no more than needed"
    strip = Region((0.0, 0.5, 1.0, 0.05))
    assert min(read_rgb(data, min_side=16, region=strip).size) >= 32


@given(
    st.floats(0, 1), st.floats(0, 1), st.floats(0.001, 1), st.floats(0.001, 1), st.integers(1, 90), st.integers(1, 90)
)
def test_a_region_has_a_pixel_and_stays_inside_any_photo(
    x: float, y: float, w: float, h: float, width: int, height: int
) -> None:
    region = Region((min(x, 1 - w), min(y, 1 - h), w, h))
    left, top, right, bottom = region.pixels(width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert region.crop(Image.new("RGB", (width, height))).size == (right - left, bottom - top)


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        ([0, 0, 0.5], "four numbers"),
        ("0,0,1,1", "four numbers"),
        ([True, 0, 1, 1], "four numbers"),
        ([10, 10, 200, 300], "not pixels"),
        ([0, 0, float("nan"), 1], "not pixels"),
        ([0.2, 0, 0.9, 1], "beyond the photo"),
        ([0, 0, 0, 1], "at least 0.001"),
    ],
)
def test_what_is_no_box_is_refused_with_a_reason(box: object, fault: str) -> None:
    assert fault in str(box_fault(box))


def test_decimal_shares_that_add_up_to_1_are_a_box() -> None:
    tenths = [number / 100 for number in range(1, 100)]
    assert [box_fault([x, 0, 1 - x, 1]) or box_fault([x, 0, round(1 - x, 2), 1]) for x in tenths] == [None] * 99


def test_a_mask_fills_what_it_leaves_out_with_gray() -> None:
    cells = np.zeros((4, 4), bool)
    cells[1:3, 1:4] = True
    cells[1, 3] = False
    region = Region.of_cells(cells)
    assert region is not None
    assert region.box == (0.25, 0.25, 0.75, 0.5)
    photo = noise(40, 80)
    expected = np.array(photo.crop((10, 20, 40, 60)))
    expected[:20, 20:] = FILL
    assert np.array_equal(region.crop(photo), expected)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_a_pixel_has_the_cell_that_its_center_lies_in(
    columns: int, rows: int, width: int, height: int, seed: int
) -> None:
    cells = np.random.default_rng(seed).random((rows, columns)) < 0.5
    stretched = Mask.of(cells).stretched(width, height)
    expected = Image.fromarray(cells.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
    assert stretched.shape == (height, width)
    for y in range(height):
        for x in range(width):
            at = ((x + 0.5) * columns / width, (y + 0.5) * rows / height)
            on_edge = any(abs(place - round(place)) < 1e-6 for place in at)
            assert on_edge or stretched[y, x] == bool(np.asarray(expected)[y, x])


def test_a_mask_of_white_alone_is_the_whole_photo_or_a_box() -> None:
    assert Region.of_cells(np.ones((3, 5), bool)) is None
    assert Region.of_box((0, 0, 1, 1)) is None
    box = np.zeros((4, 4), bool)
    box[2:, :2] = True
    assert Region.of_cells(box) == Region((0, 0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="nothing"):
        Region.of_cells(np.zeros((3, 5), bool))


def masked() -> Region:
    region = Region.of_cells(np.random.default_rng(1).random((7, 9)) < 0.7)
    assert region is not None
    assert region.mask is not None
    return region


def test_a_region_comes_back_from_json_and_its_key_tells_it_from_others() -> None:
    regions = [DOOR, Region((0.25, 0.1, 0.3, 0.61)), masked(), Region(masked().box)]
    assert [Region.parse(json.loads(json.dumps(one.to_json()))) for one in regions] == regions
    assert len({one.key for one in regions}) == 4
    assert DOOR.key == Region.parse(DOOR.to_json()).key
    assert pickle.loads(pickle.dumps(regions)) == regions


LARGEST = Mask.of(np.ones((MAX_CELLS, MAX_CELLS), bool))


def test_the_largest_mask_takes_3_kb_of_a_model() -> None:
    assert len(json.dumps(Region((0.1, 0.1, 0.5, 0.5), LARGEST).to_json())) < 3000


@pytest.mark.parametrize(
    "change",
    [
        {"box": [0, 0, 2, 1]},
        {"fill": [0, 0, 0]},
        {"mask": {"columns": 9, "rows": 7}},
        {"mask": {"columns": 9, "rows": 7, "bits": "AAAA"}},
        {"mask": {"columns": 1, "rows": 1, "bits": "/w=="}},
        {"mask": {"columns": 100_000, "rows": 100_000, "bits": ""}},
        {"mask": {"columns": True, "rows": 1, "bits": "gA=="}},
        {"mask": None},
        {"more": 1},
    ],
)
def test_a_region_that_was_altered_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    tree = masked().to_json() | change
    with pytest.raises(ValueError, match=r"region|mask|fill|photo|base64|Only|bits|bytes"):
        Region.parse(tree)
    with pytest.raises(ModelError, match="no region that can be read"):
        Model.load(seeing(tmp_path / "red.onnx", tree))


def seeing(path: Path, region: object) -> Path:
    """The model of `red_model`, of a region."""
    known = json.loads(METADATA["preprocessing"])
    return save(path, preprocessing=json.dumps(known | {"resize": REGION_RESIZE, "region": region}))


@pytest.mark.parametrize("region", [DOOR, masked()], ids=["box", "mask"])
def test_a_model_answers_about_its_region_alone(region: Region, tmp_path: Path) -> None:
    whole = Model.load(save(tmp_path / "whole.onnx"))
    model = Model.load(seeing(tmp_path / "region.onnx", region.to_json()))
    assert (whole.region, model.region) == (None, region)
    photos = [noise(50 + number, 60, number) for number in range(6)]
    cropped = [region.crop(photo) for photo in photos]
    (tmp_path / "photos").mkdir()
    for number, photo in enumerate(photos):
        photo.save(tmp_path / "photos" / f"{number}.png")
    expected = [one.probability for one in whole.predict(cropped)]
    for asked in (photos, [encoded(one) for one in photos], tmp_path / "photos", np.asarray(photos[0])[None]):
        answered = [one.probability for one in model.predict(asked)]
        assert answered == expected[: len(answered)]
    assert [one.probability for one in whole.predict(photos)] != expected
    together = list(iter_predict_all([whole, model], photos))
    assert [[one.probability for one in column] for column in zip(*together, strict=True)] == [
        [one.probability for one in whole.predict(photos)],
        expected,
    ]
    assert pickle.loads(pickle.dumps(model)).region == region
    counted = ScoreHistogram(model.sha256)
    model.predict(photos, scores=counted)
    assert counted.counts.tolist() == np.histogram(expected, 20, (0, 1))[0].tolist(), "drift is about the region, too"


def test_a_runtime_that_knows_no_regions_refuses_such_a_model() -> None:
    """Every version compares these keys of `preprocessing`, and refuses a file in which one is another."""
    assert PREPROCESSING["resize"] == "squash"
    assert PREPROCESSING["resize"] != REGION_RESIZE


@pytest.mark.parametrize(
    ("region", "resize"), [(None, REGION_RESIZE), (DOOR.to_json(), "squash"), (DOOR.to_json(), "region, crop")]
)
def test_a_region_and_a_resize_that_contradict_each_other_are_refused(
    region: object, resize: str, tmp_path: Path
) -> None:
    known = json.loads(METADATA["preprocessing"]) | {"resize": resize} | ({} if region is None else {"region": region})
    with pytest.raises(ModelError, match="region"):
        Model.load(save(tmp_path / "red.onnx", preprocessing=json.dumps(known)))


def test_predict_warns_once_of_a_region_of_few_pixels(tmp_path: Path) -> None:
    seeing(tmp_path / "red.onnx", DOOR.to_json())
    for name, side, warned in (("small", 100, 1), ("large", 400, 0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"no picture")
        for number in range(3):
            noise(side, side, number).save(tmp_path / name / f"b{number}.png")
        done = CliRunner().invoke(
            app, ["predict", str(tmp_path / "red.onnx"), str(tmp_path / name), "--format", "json"]
        )
        assert done.exit_code == 3
        assert done.stderr.count("warning:") == warned
        assert ("b0.png: the region that red sees is only 30 x 60 pixels" in " ".join(done.stderr.split())) is bool(
            warned
        )
        assert len(done.stdout.splitlines()) == 4
