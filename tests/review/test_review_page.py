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

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from clip_factory import run_folder as files
from clip_factory.label_sources.visual_evidence import Box, Mask, VisualEvidence, write_evidence
from clip_factory.labels import Labels
from clip_factory.review import words
from clip_factory.review.session import Session
from clip_factory.run_folder import RunFolder
from clip_factory.scenario import load
from support.make_run import RunKind
from support.review_page import served
from support.review_run import make_review
from support.sign_encoder import SignEncoder

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
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
    said = "no" if page.locator("#heading").inner_text().startswith("Labeled yes") else "yes"
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
    assert again.partition("/?")[0] == url.partition("/?")[0], "the same port: a page that is open goes on"
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
        command = [sys.executable, "-m", "clip_factory", "review", str(review.run), "--no-browser", "--reviewer", "ann"]
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


def test_boxes_lie_where_they_are_on_the_photo_and_can_be_hidden(review: Review, context: BrowserContext) -> None:
    names = Labels.of_run(RunFolder(review.run)).sha256.tolist()
    seen = VisualEvidence(
        (Box("red ball", 0.91, 0.25, 0.5, 0.5, 0.25),), Mask.of_pixels("red ball", np.eye(9, dtype=bool))
    )
    write_evidence(RunFolder(review.run), names, [seen] * len(names))
    with served(review.run, review.store) as site:
        page = opened(context, site.url)
        drawn = cell(page, 0).locator(".seen")
        expect(drawn).to_contain_text("red ball 0.91")
        for whole in (False, True):
            assert places(page, "#grid .cell img") == pytest.approx(places(page, "#grid .cell .seen rect"), abs=1.5), (
                whole
            )
            page.keyboard.press("w")
        expect(drawn.locator("image")).to_have_attribute("href", re.compile("^data:image/png;base64,"))
        page.keyboard.press("Enter")
        expect(page.locator("#stage .seen")).to_contain_text("red ball 0.91")
        assert places(page, "#zoomed") == pytest.approx(places(page, "#stage .seen rect"), abs=1.5)
        page.keyboard.press("ArrowRight")
        expect(page.locator("#stage .seen")).to_have_count(1)
        page.keyboard.press("b")
        expect(page.locator("#stage .seen")).to_be_hidden()
        page.keyboard.press("Escape")
        expect(drawn).to_be_hidden()
        page.get_by_role("button", name="Boxes", pressed=False).click()
        expect(drawn).to_be_visible()
        page.keyboard.press("p")
        expect(cell(page, 0).locator("img")).to_have_attribute("src", re.compile("^data:image/jpeg"))
        expect(page.locator(".seen:visible")).to_have_count(0)


def places(page: Page, selector: str) -> list[float]:
    """Where a box of (0.25, 0.5, 0.5, 0.25) lies on the first of some photos, or the first of some rectangles lies."""
    return page.locator(selector).first.evaluate(PLACES)


PLACES = """one => {
  const { x, y, width, height } = one.getBoundingClientRect();
  if (one.tagName === "rect") return [x, y, width, height];
  const fit = getComputedStyle(one).objectFit === "contain" ? Math.min : Math.max;
  const scale = fit(width / one.naturalWidth, height / one.naturalHeight);
  const [w, h] = [one.naturalWidth * scale, one.naturalHeight * scale];
  return [x + (width - w) / 2 + 0.25 * w, y + (height - h) / 2 + 0.5 * h, 0.5 * w, 0.25 * h];
}"""
"""Worked out from the rules of CSS for `object-fit`."""


def test_without_evidence_there_is_no_button_for_it(page: Page) -> None:
    expect(page.locator("#seen")).to_be_hidden()
    page.keyboard.press("b")
    expect(page.locator(".seen")).to_have_count(0)


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


def switched(page: Page, name: str, *, on: bool) -> None:
    expect(page.get_by_role("switch", name=name)).to_have_attribute("aria-checked", str(on).lower())


def test_proving_asks_test_photos_without_their_labels_and_counts_down(tmp_path: Path, context: BrowserContext) -> None:
    run, store, _ = make_review(tmp_path, RunKind(images=300, gold=0))
    session = Session.open(run, "ann", store)
    rows = {row["path"]: row for row in session.items().to_pylist()}
    threshold = session.pool.threshold
    context.set_default_timeout(PATIENCE)

    with served(run.path, store) as site:
        page = opened(context, site.url)
        switched(page, "Prove it", on=False)
        switched(page, "Move on", on=False)
        expect(page.locator("#proof")).to_be_hidden()
        page.get_by_label("Batch").select_option("12")
        page.get_by_role("switch", name="Prove it").click()
        switched(page, "Prove it", on=True)
        switched(page, "Move on", on=True)
        expect(page.locator("#proof-says")).to_have_text(
            "Nothing is shown yet; about 300 more answers are needed. "
            "Only 81 test photos are left: more photos are needed."
        )
        expect(page.locator(".cell")).to_have_count(12)
        names = [name(page, at) for at in range(12)]
        assert {rows[path]["split"] for path in names} == {"test"}
        assert "teacher says" not in page.locator("main").inner_html() + page.locator("#detail").inner_text()

        for at, path in enumerate(names[:11]):
            expect(cell(page, at)).to_be_focused()
            page.keyboard.press("y" if rows[path]["student"] >= threshold else "n")
        saved(page)
        expect(page.locator("#proof-says")).to_have_text(session.student_figures()["says"])
        assert (session.student_figures()["answered"], session.student_figures()["waiting"]) == (11, 1)
        cell(page, 11).click()
        expect(page.get_by_role("dialog", name="One photo")).to_be_visible()
        page.keyboard.press("y" if rows[names[11]]["student"] >= threshold else "n")
        expect(page.locator("#heading")).to_contain_text("12 photos")
        expect(page.locator(".cell .mark").first).to_have_text("")
        assert not {name(page, at) for at in range(12)} & set(names), "the next batch follows by itself"
        page.keyboard.press("Escape")
        page.reload()
        switched(page, "Prove it", on=True)
        page.keyboard.press("p")
        switched(page, "Prove it", on=False)
        expect(page.get_by_role("button", name="All 300")).to_have_attribute("aria-pressed", "true")


def test_when_it_is_shown_the_page_says_what_to_do_next(tmp_path: Path, context: BrowserContext) -> None:
    run, store, _ = make_review(tmp_path, RunKind(images=300, gold=0))
    session = Session.open(run, "ann", store)
    said = dict(zip(session.pool.sha256, session.pool.student >= session.pool.threshold, strict=True))
    while (session.student_figures()["needed"] or 99) > 1:
        for sha in session.next_batch(1, tests_only=True):
            session.answer([sha], "yes" if said[sha] else "no")
    assert session.student_figures()["state"] == "open"

    with served(run.path, store) as site:
        page = opened(context, f"{site.url}#prove")
        switched(page, "Prove it", on=True)
        paths = {session.path_of(sha): yes for sha, yes in said.items()}
        page.get_by_label("Batch").select_option("12")
        while True:
            path = name(page, int(page.locator(".cell:focus").get_attribute("data-at") or 0))
            page.keyboard.press("y" if paths[path] else "n")
            saved(page)
            expect(page.locator("#proof-says")).to_have_text(session.student_figures()["says"].replace("`", ""))
            if not session.student_figures()["waiting"]:
                break
        expect(page.locator("#proof")).to_have_attribute("data-state", "shown")
        expect(page.locator("#proof-says code")).to_have_text(f"factory run {run.path}")
        expect(page.locator("#right")).to_have_text("Next batch")
        page.reload()
        expect(page.locator("#proof")).to_have_attribute("data-state", "shown")
        expect(page.locator("#heading")).to_have_text("No photos here")
        assert session.student_figures()["waiting"] == 0, "nothing is drawn that is not needed"


def test_moving_on_is_a_switch_that_is_remembered(page: Page) -> None:
    page.keyboard.press("Home")
    page.keyboard.press("y")
    expect(cell(page, 0)).to_be_focused()
    page.get_by_role("switch", name="Move on").click()
    switched(page, "Move on", on=True)
    page.reload()
    switched(page, "Move on", on=True)
    page.keyboard.press("Home")
    page.keyboard.press("n")
    expect(cell(page, 1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="One photo")).to_be_visible()
    first = page.locator("#caption b").inner_text()
    page.get_by_role("dialog").get_by_role("button", name="Yes").click()
    expect(page.locator("#caption b")).not_to_have_text(first)


def test_the_size_of_a_batch_is_shown_and_chosen(page: Page) -> None:
    expect(page.locator("#ask")).to_have_text(re.compile(r"^Next \d+$"))
    page.get_by_label("Batch").select_option("24")
    page.get_by_role("button", name="Next 24 photos to answer").click()
    expect(page.get_by_role("grid")).to_have_attribute("aria-label", "Photos: Batch to ask, 24")
    page.reload()
    expect(page.locator("#ask")).to_have_text("Next 24")


def test_the_threshold_is_tried_out(page: Page, review: Review) -> None:
    session = Session.open(RunFolder.open(review.run), "ann", review.store)
    asked = session.next_batch(20, tests_only=True)
    for n, sha in enumerate(asked):
        session.answer([sha], "yes" if n % 2 else "no")
    table = session.items()
    student = np.array([np.nan if p is None else p for p in table["student"].to_pylist()])
    answer = np.array([a or "" for a in table["answer"].to_pylist()])
    known, threshold = ~np.isnan(student), session.pool.threshold
    expect(page.locator("#progress")).to_contain_text("20 of 120")
    page.get_by_role("button", name="Threshold").click()

    for at in (threshold, 0.0, 0.2, 0.505, 0.9, 1.0):
        if at != threshold:
            page.get_by_role("slider", name="Threshold to try").fill(str(at))
        yes = student >= at
        hits, alarms = int((yes & (answer == "yes")).sum()), int((yes & (answer == "no")).sum())
        turned = int(((yes != (student >= threshold)) & known).sum())
        says = page.locator("#cut-says")
        expect(says).to_contain_text(f"It finds {hits} of 10, misses {10 - hits}; {alarms} false alarm")
        expect(says).to_contain_text(" among 10")
        expect(says).to_contain_text(
            f"Says yes to {int((yes & known).sum())} of {int(known.sum())} such photos in all."
        )
        shown = "None changes side" if not turned else f"Show the {turned} that change side"
        expect(page.locator("#turned")).to_have_text(shown)
    page.get_by_role("slider", name="Threshold to try").fill("0.2")
    expect(page.locator("#cut-command")).to_have_text(f"factory threshold {review.run} --at 0.2")
    page.locator("#turned").click()
    turning = {path for path, p in zip(table["path"].to_pylist(), student, strict=True) if 0.2 <= p < threshold}
    expect(page.locator(".cell")).to_have_count(len(turning))
    assert {name(page, at) for at in range(len(turning))} == turning
    expect(cell(page, 0)).to_have_attribute("aria-label", re.compile("would become yes$"))
    page.get_by_role("slider", name="Threshold to try").press("ArrowRight")
    expect(page.locator("#at-value")).to_have_text("0.205")
    page.locator("#shipped").click()
    expect(page.locator("#at-value")).to_have_text(str(threshold))
    expect(page.locator("#cut-do")).to_be_hidden()


def test_words_are_explained_where_they_are_pointed_at_or_focused(page: Page) -> None:
    tip = page.get_by_role("tooltip")
    page.get_by_role("button", name=re.compile("^Doubtful")).hover()
    expect(tip).to_contain_text("near a half")
    page.mouse.move(450, 500)
    expect(tip).to_be_hidden()
    page.get_by_role("button", name=re.compile("^Likely mistakes")).focus()
    expect(tip).to_contain_text("bear the other label")
    expect(page.get_by_role("button", name=re.compile("^Likely mistakes"))).to_have_attribute("aria-describedby", "tip")
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    page.keyboard.press("?")
    for word in ("Drawn at random", "Test split", "Threshold", "Found, recall", "Precision"):
        expect(page.get_by_role("dialog").get_by_role("term").filter(has_text=word)).to_be_visible()


SIGNS = RunKind(images=120, gold=0, positive=("plus ball",), negative=("minus ball",))
"""Labeled by the words that `SignEncoder` knows."""


@pytest.fixture
def worded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Review:
    monkeypatch.setattr(words, "load_encoder", lambda teacher: SignEncoder())
    run, store, _ = make_review(tmp_path, SIGNS)
    return Review(run.path, store)


@pytest.fixture
def words_page(worded: Review, context: BrowserContext) -> Iterator[Page]:
    """High enough for all photos at once; an error in the page's script fails the test."""
    errors: list[str] = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    with served(worded.run, worded.store) as site:
        page = opened(context, site.url)
        page.set_viewport_size({"width": 1500, "height": 2400})
        expect(page.locator(".cell")).to_have_count(120)
        yield page
    assert errors == []


def names(page: Page) -> list[str]:
    """The paths of the photos in the order of the grid."""
    return [name(page, at) for at in range(page.locator(".cell").count())]


def heading(page: Page, begins: str) -> None:
    expect(page.locator("#heading")).to_have_text(re.compile(f"^{begins}"))


def try_words(page: Page, positive: str, negative: str) -> None:
    page.get_by_label("Yes looks like").fill(positive)
    page.get_by_label("No looks like").fill(negative)


def likely(page: Page, positive: str, negative: str) -> dict[str, float]:
    """What the server says that these words would make of each photo, by path, the likeliest first."""
    p = page.evaluate(
        """async ([positive, negative]) => {
            const sent = await (await fetch("/api/items")).json();
            const body = JSON.stringify({ positive: [positive], negative: [negative], run: sent.about.id });
            const tried = await (await fetch("/api/words/try", { method: "POST", body })).json();
            return sent.columns.path.map((path, i) => [path, tried.p[i]]);
        }""",
        [positive, negative],
    )
    return dict(sorted(p, key=lambda pair: -pair[1]))


def said(review: Review) -> dict[str, bool]:
    """The labels of the run, as a session of its own reads them."""
    table = Session.open(RunFolder.open(review.run), "check", review.store).items()
    return dict(zip(table["path"].to_pylist(), table["predicted"].to_pylist(), strict=True))


def test_other_words_sort_the_grid_and_mark_what_changes_side(words_page: Page, worded: Review) -> None:
    page, labels = words_page, said(worded)
    panel = page.get_by_role("region", name="Try other words")
    expect(panel).to_be_hidden()
    page.keyboard.press("s")
    expect(panel).to_be_visible()
    expect(page.get_by_label("Yes looks like")).to_be_focused()
    expect(page.get_by_label("Yes looks like")).to_have_value("plus ball")
    expect(page.get_by_label("No looks like")).to_have_value("minus ball")
    heading(page, "By these words yes")
    assert names(page) == list(likely(page, "plus ball", "minus ball"))

    try_words(page, "minus day", "plus day")
    p = likely(page, "minus day", "plus day")
    turned = {path: value >= 0.5 for path, value in p.items() if (value >= 0.5) != labels[path]}
    assert len(turned) > 100 and set(turned.values()) == {True, False}
    expect(page.locator("#words-turned")).to_have_text(f"Show the {len(turned)} that change side")
    expect(page.locator("#words-says")).to_contain_text(f"Yes to {sum(v >= 0.5 for v in p.values())} photos of 120.")
    expect(cell(page, 0)).to_have_attribute("aria-label", re.compile(re.escape(next(iter(p)))))
    assert names(page) == list(p)
    for path, one in zip(p, page.locator(".cell").all(), strict=True):
        become = re.search("would become (yes|no)$", one.get_attribute("aria-label") or "")
        assert (become and become[1] == "yes") == turned.get(path)
        assert one.get_attribute("data-turns") == ({True: "yes", False: "no"}[turned[path]] if path in turned else "")

    page.locator("#words-turned").click()
    heading(page, "Would become yes")
    assert set(names(page)) == set(turned)
    page.locator("#words-open").click()
    expect(panel).to_be_hidden()
    heading(page, "Labeled yes")
    expect(page.locator('.cell:not([data-turns=""])')).to_have_count(0)


def test_while_words_are_on_trial_no_label_is_confirmed(words_page: Page, worded: Review) -> None:
    page, labels = words_page, said(worded)
    page.keyboard.press("s")
    heading(page, "By these words yes")
    try_words(page, "minus day", "plus day")
    expect(page.locator("#words-turned")).to_contain_text("that change side")
    expect(page.locator("#right")).not_to_contain_text("are right")
    page.locator("#right").click()
    page.keyboard.press("a")
    saved(page)
    assert worded.answers() == {}

    page.get_by_label("Yes looks like").fill("no ball")
    expect(page.locator("#words-says")).to_contain_text("which CLIP does not understand")
    expect(page.locator("#words-accept")).to_be_disabled()
    expect(page.locator("#words-turned")).to_be_disabled()
    heading(page, "Labeled yes")
    expect(page.locator('.cell:not([data-turns=""])')).to_have_count(0)

    page.locator("#words-open").click()
    page.locator("#right").click()
    saved(page)
    assert worded.answers() == {path: "yes" if yes else "no" for path, yes in labels.items()}


def test_accepted_words_are_written_and_label_the_page(words_page: Page, worded: Review) -> None:
    page, scenario = words_page, load(worded.run / files.SCENARIO)
    page.keyboard.press("Home")
    first = name(page, 0)
    page.keyboard.press("u")
    saved(page)
    page.keyboard.press("s")
    heading(page, "By these words yes")
    try_words(page, "minus day", "plus day\n\n  plus night ")
    expect(page.locator("#words-turned")).to_contain_text("that change side")
    before = set(names(page)[: int(re.sub(r"\D", "", page.locator("#heading span").inner_text()))])
    page.locator("#words-accept").click()
    expect(page.locator("#words-done")).to_have_text(
        f"Written to {worded.run / files.SCENARIO}. To label and train with them: factory run {worded.run}"
    )
    words_now = {"positive": ("minus day",), "negative": ("plus day", "plus night")}
    assert load(worded.run / files.SCENARIO) == scenario.model_copy(update=words_now)
    heading(page, "Labeled yes")
    expect(page.locator("#words-turned")).to_be_disabled()
    expect(page.locator('.cell:not([data-turns=""])')).to_have_count(0)
    yes = page.locator('.cell[aria-label*="teacher says yes"]').all()
    assert {(one.get_attribute("aria-label") or "").split(":")[0] for one in yes} == before
    assert worded.answers() == {first: "unsure"}
    page.get_by_label("Yes looks like").fill("plus")
    page.get_by_role("button", name="Back to the words in force").click()
    expect(page.get_by_label("Yes looks like")).to_have_value("minus day")
    expect(page.get_by_label("No looks like")).to_have_value("plus day\nplus night")


def test_words_accepted_before_they_were_tried_are_not_on_trial_any_more(words_page: Page, worded: Review) -> None:
    page = words_page
    page.keyboard.press("s")
    heading(page, "By these words yes")
    page.get_by_label("Yes looks like").fill("plus day")
    page.locator("#words-accept").click()  # sooner than the page tries by itself
    expect(page.locator("#words-done")).to_contain_text("Written to")
    page.wait_for_timeout(1500)
    heading(page, "Labeled yes")
    assert load(worded.run / files.SCENARIO).positive == ("plus day",)


def test_keys_typed_into_words_answer_no_photo(words_page: Page, worded: Review) -> None:
    page, order = words_page, names(words_page)
    page.keyboard.press("Home")
    page.keyboard.press("s")
    heading(page, "By these words yes")
    page.get_by_label("No looks like").focus()
    page.keyboard.press("End")
    page.keyboard.type("s funny as a gap 5 z?+-w")
    page.keyboard.press("Enter")
    page.keyboard.type("f")
    for key in ("ArrowLeft", "Delete", "Backspace"):
        page.keyboard.press(key)
    expect(page.get_by_label("No looks like")).to_have_value("minus balls funny as a gap 5 z?+-w")
    expect(page.get_by_label("No looks like")).to_be_focused()
    expect(page.locator("#words-says")).to_contain_text("photos of 120")
    saved(page)
    assert worded.answers() == {}
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.locator("#words-open").click()
    page.get_by_role("button", name="All 120", exact=True).click()
    assert names(page) == order

    page.keyboard.press("Home")
    page.keyboard.press("y")
    saved(page)
    assert worded.answers() == {order[0]: "yes"}, "outside they do"


def test_undo_in_words_undoes_what_was_typed_and_no_answer(words_page: Page, worded: Review) -> None:
    page = words_page
    page.keyboard.press("Home")
    page.keyboard.press("y")
    saved(page)
    given = worded.answers()
    page.keyboard.press("s")
    heading(page, "By these words yes")
    page.keyboard.press("End")
    page.keyboard.type("s")
    page.keyboard.press("Control+z")
    page.wait_for_timeout(1000)

    assert page.get_by_label("Yes looks like").input_value() == "plus ball"
    assert len(given) == 1 and worded.answers() == given


def test_it_fits_a_narrow_screen(review: Review, browser: Browser) -> None:
    phone = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    phone.set_default_timeout(PATIENCE)
    with served(review.run, review.store) as site:
        page = opened(phone, site.url)
        page.locator("#try").tap()
        page.get_by_role("slider", name="Threshold to try").fill("0.2")
        expect(page.locator("#cut-command")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.locator("#prove").tap()
        switched(page, "Prove it", on=True)
        cell(page, 0).tap()
        page.get_by_role("dialog").get_by_role("button", name="Yes").tap()
        saved(page)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
    phone.close()

    assert list(review.answers().values()) == ["yes"]
