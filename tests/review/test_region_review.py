"""The review of a run that looks at a region: tiles are the region, and the photo shown large has it marked."""

from __future__ import annotations

import asyncio
import io
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from clip_factory import run_folder as files
from clip_factory.review.thumbnails import Thumbnails
from clip_factory.run_folder import sha256_file
from clip_factory.runtime.region import Region
from clip_factory.scenario import dump, load
from support.review_page import served
from support.review_run import make_review

BOX = (0.5, 0.25, 0.25, 0.5)
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def views(root: Path, region: Region | None) -> list[Image.Image]:
    """The thumbnail and the large view of `a.png`."""
    sha256 = sha256_file(root / "a.png")
    cache = root / ("whole" if region is None else region.key)
    with closing(Thumbnails(root, {sha256: "a.png"}, cache, region)) as thumbs:

        async def both() -> list[bytes | None]:
            return [await thumbs.thumb(sha256), await thumbs.photo(sha256)]

        return [Image.open(io.BytesIO(jpeg or b"")) for jpeg in asyncio.run(both())]


def test_a_tile_is_the_region_and_the_large_view_is_the_whole_photo_with_it_marked(tmp_path: Path) -> None:
    pixels = np.full((300, 400, 3), (40, 90, 200), np.uint8)
    pixels[75:225, 200:300] = (200, 60, 40)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    tile, large = (np.asarray(view, int) for view in views(tmp_path, Region(BOX)))
    assert tile.shape == (150, 100, 3)
    assert abs(tile - (200, 60, 40)).max() <= 4, "nothing of what is around it"
    assert large.shape == (300, 400, 3)
    assert abs(large[90:210, 215:285] - (200, 60, 40)).max() <= 6
    assert abs(large[10:60, 10:180] - (16, 36, 80)).max() <= 6, "dim"
    assert (abs(large - (255, 196, 0)).max(axis=2) < 90).sum() > 400, "a bright line"
    whole = views(tmp_path, None)
    assert [view.size for view in whole] == [(299, 224), (400, 300)]
    assert abs(np.asarray(whole[1], int)[10:60, 10:180] - (40, 90, 200)).max() <= 4


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert program, "no Chromium on the PATH: apt-get install chromium, or see scripts/test"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--headless", "--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.slow
@pytest.mark.parametrize("region", [BOX, None])
def test_the_page_says_that_it_shows_a_region(
    browser: Browser, region: tuple[float, float, float, float] | None, tmp_path: Path
) -> None:
    run, store, _ = make_review(tmp_path)
    scenario = load(run.file(files.SCENARIO)).model_copy(update={"region": region})
    run.file(files.SCENARIO).write_text(dump(scenario), encoding="utf-8")
    with served(run.path, store) as site, closing(browser.new_page()) as page:
        page.goto(site.url)
        expect(page.locator("#saved")).to_have_text("All saved")
        assert page.locator("#region").is_visible() is (region is not None)
        page.locator('[data-at="0"]').focus()
        page.keyboard.press("Enter")
        expect(page.locator("#zoomed")).to_be_visible()
        source = page.locator("#zoomed").get_attribute("src") or ""
        assert page.evaluate("document.querySelector('#zoomed').decode().then(() => true)")
    assert source.partition("?")[2] == ("" if region is None else f"region={Region(BOX).key}")
    folder = "rules-2" if region is None else f"rules-2-region-{Region(BOX).key}"
    assert [path.name for path in (store / "thumbs").iterdir()] == [folder]
