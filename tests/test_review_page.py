"""The review page in a real browser: clicks, keys and touch in, answers on the disk out.

Needs Chromium (`scripts/test` installs it where apt-get exists).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright
from review_page import served
from review_run import make_review

from factory.artifacts import RunFolder
from factory.review.session import Session

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
PATIENCE = 120_000
"""Milliseconds before a page that does not do as it should is given up."""

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert found, "no Chromium on the PATH: apt-get install chromium, or see scripts/test"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=list(FLAGS), timeout=PATIENCE)
        yield opened
        opened.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    fresh = browser.new_context(viewport={"width": 900, "height": 620})
    fresh.set_default_timeout(PATIENCE)
    yield fresh
    fresh.close()


@dataclass
class Review:
    run: Path
    store: Path

    def state(self) -> dict[str, tuple[str | None, str | None, bool]]:
        """Answer, reviewer and conflict by path, as the disk has them."""
        table = Session.open(RunFolder.open(self.run), "check", self.store).items().to_pydict()
        return dict(zip(table["path"], zip(table["answer"], table["by"], table["conflict"], strict=True), strict=True))

    def answers(self) -> dict[str, str]:
        return {path: answer for path, (answer, _, _) in self.state().items() if answer}


@pytest.fixture
def review(tmp_path: Path) -> Review:
    run, store, _ = make_review(tmp_path)
    return Review(run.path, store)


@pytest.fixture
def page(review: Review, context: BrowserContext) -> Iterator[Page]:
    with served(review.run, review.store) as site:
        yield opened(context, site.url)


def opened(context: BrowserContext, url: str) -> Page:
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    expect(page.locator("#saved")).to_have_text("All saved")
    assert errors == []
    return page


def cell(page: Page, at: int) -> Locator:
    return page.locator(f'[data-at="{at}"]')


def name(page: Page, at: int) -> str:
    """The path of the photo on a cell: the first words of its accessible name."""
    return (cell(page, at).get_attribute("aria-label") or "").split(":")[0]


def saved(page: Page) -> None:
    expect(page.locator("#saved")).to_have_text("All saved")
    expect(page.locator(".waits")).to_have_count(0)


def test_a_click_flips_and_a_second_one_confirms(page: Page, review: Review) -> None:
    said = "no" if page.locator("#heading").inner_text().startswith("Labelled yes") else "yes"
    cell(page, 1).click()
    expect(cell(page, 1).locator(".mark")).to_have_text(said)
    saved(page)
    first = review.answers()
    cell(page, 1).click()
    expect(cell(page, 1).locator(".mark")).to_have_text("✓")
    saved(page)

    assert first == {name(page, 1): said}
    assert review.answers() == {name(page, 1): "yes" if said == "no" else "no"}
    assert review.state()[name(page, 1)][1] == "ann"


def test_a_range_is_answered_undone_and_survives_a_reload(page: Page, review: Review) -> None:
    cell(page, 2).click(modifiers=["Control"])
    cell(page, 6).click(modifiers=["Shift"])
    expect(page.locator('[aria-selected="true"]')).to_have_count(5)
    page.keyboard.press("u")
    saved(page)
    page.keyboard.press("Escape")
    cell(page, 9).click()
    saved(page)
    names = {name(page, at) for at in range(2, 7)}
    assert {path for path, answer in review.answers().items() if answer == "unsure"} == names

    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#detail")).to_have_text("Undone: 1 photo.")
    page.reload()
    expect(cell(page, 2).locator(".mark")).to_have_text("unsure")
    expect(cell(page, 9).locator(".mark")).to_have_text("")
    assert set(review.answers()) == names

    page.keyboard.press("z")
    expect(cell(page, 2).locator(".mark")).to_have_text("")
    assert review.answers() == {}


def test_the_keyboard_alone(page: Page, review: Review) -> None:
    names = [name(page, at) for at in range(3)]
    page.keyboard.press("Home")
    for key in ("y", "ArrowRight", "n", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_role("dialog", name="One photo")).to_be_visible()
    page.keyboard.press("u")
    expect(page.locator("#caption")).to_contain_text("answered unsure")
    page.keyboard.press("Escape")
    saved(page)
    assert review.answers() == dict(zip(names, ("yes", "no", "unsure"), strict=True))

    for key in ("Shift+ArrowLeft", "Shift+ArrowLeft", "Backspace", "Escape"):
        page.keyboard.press(key)
    saved(page)
    assert review.answers() == {}
    expect(cell(page, 0)).to_be_focused()
    assert cell(page, 0).evaluate("one => getComputedStyle(one).outlineWidth") == "3px"

    page.keyboard.press("Space")
    saved(page)
    assert list(review.answers()) == names[:1]

    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys and gestures")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("End")
    expect(page.locator(".cell:focus")).to_have_attribute("data-at", "119")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "undo":
            break
    assert page.evaluate("document.activeElement.id") == "undo"
    page.keyboard.press("Enter")
    expect(page.locator("#detail")).to_have_text("Undone: 1 photo.")
    assert review.answers() == {}


def test_filters_show_what_they_count(page: Page) -> None:
    cell(page, 0).click()
    saved(page)
    answered = name(page, 0)
    page.get_by_role("button", name=re.compile("^Gold")).click()
    expect(page.locator(".cell")).to_have_count(1)
    assert name(page, 0) == answered

    page.keyboard.press("6")
    expect(page.get_by_role("button", name="Unreviewed 119")).to_have_attribute("aria-pressed", "true")
    assert answered not in page.locator(".cell").first.get_attribute("aria-label")
    for key, button in (("2", "Doubtful"), ("4", "Student disagrees"), ("5", "Near copies")):
        page.keyboard.press(key)
        chosen = page.get_by_role("button", name=re.compile(f"^{button}"))
        expect(chosen).to_have_attribute("aria-pressed", "true")
        count = re.sub(r"\D", "", chosen.inner_text())
        expect(page.get_by_role("grid")).to_have_attribute("aria-label", f"Photos: {button}, {count}")


def test_a_batch_is_confirmed_in_one_go(page: Page, review: Review) -> None:
    table = Session.open(RunFolder.open(review.run), "check", review.store).items().to_pydict()
    said = dict(zip(table["path"], table["predicted"], strict=True))
    page.keyboard.press("g")
    expect(page.locator("#ask")).to_have_attribute("aria-pressed", "true")
    button = page.locator("#right")
    expect(button).to_contain_text("shown are right")
    open_ones = int(re.sub(r"\D", "", button.inner_text()))
    page.keyboard.press("a")
    expect(page.locator("#progress")).to_contain_text(f"{open_ones} of 120 answered")
    saved(page)
    given = review.answers()

    assert len(given) == open_ones
    assert given == {path: "yes" if said[path] else "no" for path in given}


def test_two_reviewers_see_each_other_and_settle_a_conflict(
    review: Review, context: BrowserContext, browser: Browser
) -> None:
    other = browser.new_context()
    other.set_default_timeout(PATIENCE)
    with served(review.run, review.store, "ann") as hers, served(review.run, review.store, "bob") as his:
        ann, bob = opened(context, hers.url), opened(other, his.url)
        cell(ann, 0).click()
        expect(cell(bob, 0)).to_have_attribute("aria-label", re.compile("answered (yes|no) by ann$"))
        bob.keyboard.press("Home")
        cell(bob, 0).click()
        for page in (ann, bob):
            expect(cell(page, 0).locator(".mark")).to_have_text("conflict")
        path = name(ann, 0)
        assert review.state()[path] == (None, "ann, bob", True)
        expect(cell(ann, 0)).to_have_attribute(
            "aria-label", re.compile("conflict: ann says (yes|no), bob says (yes|no)")
        )

        ann.keyboard.press("Home")
        ann.keyboard.press("y")
        for page in (ann, bob):
            expect(cell(page, 0)).to_have_attribute("aria-label", re.compile("answered yes by ann$"))
    other.close()

    assert review.state()[path] == ("yes", "ann", False)


def test_nothing_is_lost_when_the_server_is_killed(
    review: Review, context: BrowserContext, start: Callable[[int | None], tuple[subprocess.Popen[str], str]]
) -> None:
    server, url = start(None)
    page = opened(context, url)
    names = [name(page, at) for at in range(4)]
    page.keyboard.press("Home")
    page.keyboard.press("y")
    saved(page)
    server.kill()
    server.wait()
    for key in ("ArrowRight", "n", "ArrowRight", "u", "ArrowRight", "n", "z"):
        page.keyboard.press(key)
    expect(page.locator("#saved")).to_have_text("Server away; 2 answers kept here; trying again")
    expect(cell(page, 1)).to_have_class(re.compile("waits"))
    assert review.answers() == {names[0]: "yes"}

    server, again = start(int(url.split("/")[2].split(":")[1]))
    saved(page)
    assert again == url
    assert review.answers() == dict(zip(names, ("yes", "no", "unsure"), strict=False))

    server.kill()
    server.wait()
    page.keyboard.press("n")
    expect(page.locator("#saved")).to_have_text("Server away; 1 answer kept here; trying again")
    page.close()
    start(int(url.split("/")[2].split(":")[1]))
    saved(opened(context, url))
    assert review.answers()[names[3]] == "no"


@pytest.fixture
def start(review: Review) -> Iterator[Callable[[int | None], tuple[subprocess.Popen[str], str]]]:
    """Starts the command; gives the process and the address that it prints."""
    started = []

    def starting(port: int | None) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "factory", "review", str(review.run), "--no-browser", "--reviewer", "ann"]
        command += ["--store", str(review.store)] + (["--port", str(port)] if port else [])
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path})
        started.append(process)
        return process, process.stdout.readline().strip()

    yield starting
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_command_ends_well_on_ctrl_c(
    start: Callable[[int | None], tuple[subprocess.Popen[str], str]], context: BrowserContext
) -> None:
    process, url = start(None)
    opened(context, url)
    process.send_signal(signal.SIGINT)

    assert process.wait(120) == 0


def test_on_a_phone(review: Review, browser: Browser) -> None:
    phone = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    phone.set_default_timeout(PATIENCE)
    with served(review.run, review.store) as site:
        page = opened(phone, site.url)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        cell(page, 0).tap()
        expect(cell(page, 0)).to_have_class(re.compile("flipped"))
        cell(page, 4).dispatch_event("pointerdown", {"pointerType": "touch", "clientX": 60, "clientY": 400})
        expect(cell(page, 4)).to_have_attribute("aria-selected", "true")
        cell(page, 4).dispatch_event("pointerup", {"pointerType": "touch"})
        cell(page, 4).dispatch_event("click", {"pointerType": "touch"})
        cell(page, 6).tap()
        expect(page.locator('[aria-selected="true"]')).to_have_count(2)
        page.get_by_role("button", name="Unsure").tap()
        saved(page)
        names = {name(page, at) for at in (4, 6)}
    phone.close()

    assert {path for path, answer in review.answers().items() if answer == "unsure"} == names


def test_only_what_is_near_the_screen_exists_and_all_of_it_loads_from_here(
    review: Review, context: BrowserContext
) -> None:
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    with served(review.run, review.store) as site:
        page = context.new_page()
        page.set_viewport_size({"width": 500, "height": 420})
        page.goto(site.url)
        expect(cell(page, 0)).to_be_visible()
        assert page.locator(".cell").count() < 60
        page.keyboard.press("End")
        expect(cell(page, 119)).to_be_visible()
        expect(cell(page, 60)).to_have_count(0)
        expect(cell(page, 119).locator("img")).to_have_attribute("src", re.compile("^data:image/jpeg"))
        assert cell(page, 119).locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 50
        origin = site.url.split("/?")[0]

    assert {url for url in asked if not url.startswith((origin, "data:image/"))} == set()
    assert page.url == f"{origin}/"


def test_a_photo_that_is_gone_says_so(review: Review, context: BrowserContext) -> None:
    photos = review.run.parent / "images"
    for path in photos.rglob("*.jpg"):
        path.write_bytes(b"something else")
    with served(review.run, review.store) as site:
        page = opened(context, site.url)
        expect(cell(page, 0)).to_have_class(re.compile("gone"))


def test_everything_has_a_name(page: Page) -> None:
    grid = page.get_by_role("grid", name="Photos")
    expect(grid).to_have_attribute("aria-multiselectable", "true")
    names = [
        one.get_attribute("aria-label") for one in grid.get_by_role("gridcell").filter(has=page.locator("img")).all()
    ]
    buttons = page.locator("button:visible").all()

    assert all(re.search(r"\.jpg: teacher says (yes|no) \(.*%\)", one) for one in names)
    assert all((one.get_attribute("aria-label") or one.inner_text()).strip() for one in buttons)
    assert page.get_by_role("progressbar", name="Photos answered").get_attribute("aria-valuemax") == "120"
    assert page.title() == "Review: Is there a red ball?"
