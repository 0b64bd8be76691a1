"""The report's slider in a real browser: keys in, counts and photos out.

Needs Chromium (`scripts/test` installs it where apt-get exists).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from clip_factory.report import write_report
from clip_factory.report.run_data import RunData, read_run_data
from clip_factory.run_folder import REPORT
from support.make_run import RunKind, make_run

pytestmark = pytest.mark.slow

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
PATIENCE = 120_000
"""Milliseconds before a page that does not do as it should is given up."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    scenario, run = make_run(tmp_path_factory.mktemp("slider"), RunKind(images=300, gold=0.7, noise=3.0, picked=0.3))
    write_report(scenario, run)
    return read_run_data(scenario, run)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert found, "no Chromium on the PATH: apt-get install chromium, or see scripts/test"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=list(FLAGS), timeout=PATIENCE)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, data: RunData) -> Iterator[Page]:
    context = browser.new_context(offline=True)
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto((data.folder / REPORT).as_uri())
    yield opened
    context.close()
    assert not complaints


def counts(page: Page) -> list[str]:
    return [page.locator(f"#line-{name}").inner_text() for name in ("name", "found", "missed", "alarms")]


def expected(data: RunData, threshold: float) -> list[str]:
    found = data.evaluated.at(threshold)
    shares = (f"{found.hits} of {found.yes}", f"{found.misses}", f"{found.false_alarms} of {found.no}")
    return [f"{threshold:g}", *shares]


def press(page: Page, key: str, times: int) -> None:
    slider = page.locator("#line-at")
    slider.focus()
    for _ in range(times):
        slider.press(key)


def shown(page: Page) -> list[float]:
    """Probabilities of the photos that are seen."""
    return [
        float(p or "nan") for p in page.locator("#line-photos li:visible").evaluate_all("l => l.map(x => x.dataset.p)")
    ]


def test_it_begins_where_the_model_was_shipped(page: Page, data: RunData) -> None:
    assert counts(page) == expected(data, data.threshold)
    assert len(shown(page)) == 12
    expect(page.locator("#line-move")).to_be_hidden()


@pytest.mark.parametrize(("key", "threshold"), [("ArrowLeft", 0.33), ("ArrowRight", 0.53)])
def test_keys_move_it_and_photos_change_side(page: Page, data: RunData, key: str, threshold: float) -> None:
    press(page, key, 10)
    assert counts(page) == expected(data, threshold)
    tests = np.flatnonzero(data.labels.test)
    p = data.labels.student[tests]
    low, high = sorted((threshold, data.threshold))
    turned = tests[(p >= low) & (p < high)]
    assert len(turned), "else nothing is shown"
    assert shown(page) == sorted(data.labels.student[turned].tolist())
    right = data.labels.gold[turned] == (1 if key == "ArrowLeft" else 0)
    fair = data.labels.unbiased[turned]
    way = "from no to yes" if key == "ArrowLeft" else "from yes to no"
    says = page.locator("#line-turning").inner_text()
    assert says.startswith(f"{len(turned)} test photo")
    assert way in says
    assert ("not count: not labeled by people, or picked for doubt" in says) == (not fair.all())
    if fair.any():
        assert f"{(right & fair).sum()} rightly, {(~right & fair).sum()} wrongly, by people’s labels" in says
    command = page.locator("#line-command").inner_text()
    assert command == f"factory threshold {data.folder} --at {threshold:g}"


def test_shift_goes_by_thousandths_and_the_button_leads_home(page: Page, data: RunData) -> None:
    press(page, "Shift+ArrowRight", 3)
    assert counts(page) == expected(data, 0.433)
    page.locator("#line-back").click()
    assert counts(page) == expected(data, data.threshold)
    press(page, "ArrowLeft", 60)
    assert counts(page) == expected(data, 0.001)


def test_every_embedded_photo_is_reached(page: Page) -> None:
    seen = set(shown(page))
    for key in ("Home", "End"):
        press(page, key, 1)
        seen |= set(shown(page))
    everything = page.locator("#line-photos li").evaluate_all("l => l.map(x => Number(x.dataset.p))")
    assert seen == set(everything)


def test_without_script_the_counts_stand_in_a_table(browser: Browser, data: RunData) -> None:
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto((data.folder / REPORT).as_uri())
    text = re.sub(r"\s+", " ", page.locator("#line").inner_text())
    _, *cells = expected(data, data.threshold)
    assert f"0.43 shipped {' '.join(cells)}" in text
    assert "Arrow keys" not in text
    assert len(shown(page)) == 12
    context.close()


def test_a_script_of_another_is_not_run(browser: Browser, data: RunData, tmp_path: Path) -> None:
    text = (data.folder / REPORT).read_text(encoding="utf-8")
    evil = tmp_path / "report.html"
    evil.write_text(text.replace("<header", "<script>document.title = 'taken'</script><header", 1), encoding="utf-8")
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(evil.as_uri())
    expect(page.locator("#line-tool")).to_be_visible()
    assert "taken" not in page.title()
    context.close()
