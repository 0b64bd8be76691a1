"""What is drawn over the photos of the pages: at the right place, in words too, and nothing where nothing is seen."""

from __future__ import annotations

import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clip_factory.label_sources.source import YES_NO
from clip_factory.label_sources.visual_evidence import Box, Mask, VisualEvidence, write_evidence
from clip_factory.labels import Labels
from clip_factory.report import write_labels, write_report
from clip_factory.report.evidence_overlay import NAMED, NO, YES, drawn_evidence, overlay, tinted
from clip_factory.run_folder import LABELS, LABELS_PAGE, REPORT, RunFolder
from clip_factory.scenario import Scenario
from support.make_run import make_run

BALL, SUN = Box("ball", 0.91, 0.25, 0.5, 0.5, 0.25), Box("<sun>", 0.4, 0.0, 0.0, 0.1, 0.1)


def test_boxes_lie_on_the_picture_in_the_color_of_their_side() -> None:
    drawn = overlay(VisualEvidence((BALL, SUN)), (192, 96), {"ball"})

    assert drawn is not None and (drawn.width, drawn.height) == (192, 96)
    sun, ball = drawn.boxes
    assert (ball.x, ball.y, ball.width, ball.height, ball.color) == (48, 48, 96, 24, YES), "the best is drawn last"
    assert (sun.x, sun.y, sun.color) == (0, 0, NO)
    assert ball.text == "ball 0.91" and ball.text_y < 48, "over the box"
    assert sun.text_y > 0, "within the box, where there is no room over it"
    assert drawn.text == "ball 0.91, <sun> 0.40" and drawn.mask == "" == drawn.mask_text


def test_words_begin_where_they_end_within_the_picture() -> None:
    drawn = overlay(VisualEvidence((Box("a long phrase", 0.5, 0.9, 0.5, 0.1, 0.1),)), (192, 96), ())

    assert drawn is not None
    assert 0 < drawn.boxes[0].text_x < 192 - 5 * len(drawn.boxes[0].text)


def test_only_a_few_boxes_are_named_on_a_picture_and_all_in_words() -> None:
    boxes = tuple(Box(f"thing {i}", 0.9 - i / 10, i / 10, 0.5, 0.1, 0.1) for i in range(6))
    drawn = overlay(VisualEvidence(boxes), (192, 96), ())

    assert drawn is not None
    assert sum(bool(box.text) for box in drawn.boxes) == NAMED
    assert drawn.text.count("thing") == 6


def test_nothing_is_drawn_where_nothing_is_seen() -> None:
    assert overlay(VisualEvidence(), (192, 96), {"ball"}) is None


def test_a_mask_is_tinted_with_an_edge_that_shows_on_light_and_dark() -> None:
    pixels = np.zeros((64, 64), bool)
    pixels[20:40, 10:30] = True
    mask = Mask.of_pixels("ball", pixels)

    with Image.open(io.BytesIO(tinted(mask))) as image:
        colors = np.asarray(image.convert("RGBA"))

    assert colors.shape == (64, 64, 4)
    assert (colors[25:35, 15:25, 3] < 128).all() and (colors[25:35, 15:25, 3] > 0).all(), "the photo shows through"
    assert colors[20, 15, 3] == 255 and colors[20, 15, :3].max() > 200, "a bright edge"
    assert colors[19, 15, 3] > 100 and colors[19, 15, :3].max() == 0, "beside a dark one"
    assert (colors[:18, :, 3] == 0).all()
    assert drawn_evidence(VisualEvidence(mask=mask), ())["says"] == f"ball {400 / 4096:.1%}"


def test_a_mask_of_less_than_a_cell_is_seen_too() -> None:
    pixels = np.zeros((352, 352), bool)
    pixels[100, 100] = True

    with Image.open(io.BytesIO(tinted(Mask.of_pixels("ball", pixels)))) as image:
        assert np.asarray(image)[..., 3].max() > 0


class Drawings(HTMLParser):
    """The drawings over photos: the rectangles, images and words of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.drawings: list[dict[str, list[dict[str, str | None]]]] = []
        self.labels: list[str | None] = []
        self.words: list[str] = []
        self.open = self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "svg":
            self.open = attributes.get("class") == "seen"
        if tag == "svg" and self.open:
            self.drawings.append({"rect": [], "image": []})
            self.labels.append(attributes["aria-label"])
        elif tag in ("rect", "image") and self.open:
            self.drawings[-1][tag].append(attributes)
        self.inside = self.open and tag == "text"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.words.append(data)
        self.inside = False


@pytest.fixture
def made(tmp_path: Path) -> tuple[Scenario, RunFolder]:
    scenario, run = make_run(tmp_path)
    names = Labels.of_run(run).sha256.tolist()
    mask = Mask.of_pixels("<sun>", np.eye(8, dtype=bool))
    write_evidence(run, names, [VisualEvidence((BALL, SUN), mask)] * len(names))
    return scenario, run


def test_report_and_labels_page_draw_it_on_every_photo_that_can_be_read(made: tuple[Scenario, RunFolder]) -> None:
    scenario, run = made
    write_report(scenario, run)
    write_labels(scenario, run)

    for name in (REPORT, LABELS_PAGE):
        text = run.file(name).read_text(encoding="utf-8")
        page = Drawings(text)
        assert len(page.drawings) == text.count('<figure class="photo">') > 10
        assert set(page.labels) == {"Seen there: ball 0.91, <sun> 0.40, <sun> 12.5%"}
        assert {"ball 0.91", "<sun> 0.40", "<sun> 12.5%"} == set(page.words), "hostile words are escaped"
        for drawing in page.drawings:
            assert [rect.get("class") for rect in drawing["rect"]] == ["casing", None, "casing", None]
            assert all((one["href"] or "").startswith("data:image/png;base64,") for one in drawing["image"])


def test_boxes_of_a_mixture_have_the_color_of_their_side(made: tuple[Scenario, RunFolder]) -> None:
    """Its labels say yes and no, and its boxes name the phrases."""
    scenario, run = made
    scenario = scenario.model_copy(update={"positive": ("ball",)})
    labels = Labels.of_run(run)
    scores = np.stack([labels.p_teacher, 1 - labels.p_teacher], axis=1)
    replace(labels, scores=scores, metadata={**labels.metadata, "phrases": YES_NO.to_json()}).write(run.file(LABELS))
    write_report(scenario, run)
    write_labels(scenario, run)

    for name in (REPORT, LABELS_PAGE):
        for drawing in Drawings(run.file(name).read_text(encoding="utf-8")).drawings:
            assert [rect["stroke"] for rect in drawing["rect"][1::2]] == [NO, YES], "the best is on top"


def test_photos_that_are_gone_have_no_drawing(made: tuple[Scenario, RunFolder]) -> None:
    scenario, run = made
    for photo in Path(scenario.images.path or "").rglob("*.jpg"):
        photo.unlink()

    write_labels(scenario, run)

    assert Drawings(run.file(LABELS_PAGE).read_text(encoding="utf-8")).drawings == []


def test_pages_without_evidence_have_no_drawing(tmp_path: Path) -> None:
    scenario, run = make_run(tmp_path)

    write_labels(scenario, run)

    assert "framed" not in run.file(LABELS_PAGE).read_text(encoding="utf-8").split("</style>")[1]
