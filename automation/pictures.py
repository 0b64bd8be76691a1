"""The two pictures of a comment: curves drawn from numbers, and the worst photos, captioned and encoded anew."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from automation.runs import Run
from automation.worst_images import COLUMNS, GROUND, worst
from clip_factory.report.embedded_images import QUALITY, SIDE
from clip_factory.report.formatting import score
from clip_factory.report.run_data import Floats, LabeledPhotos

MAX_BYTES = 8_000_000
"""Of a sheet of photos."""
GAP, CAPTION = 8, 40
"""Pixels between two photos, and below one for its two lines."""
MAX_LOSS = 1e6
"""Numbers beyond are not drawn: no loss is so large, and axes break on them."""
INK, SOFT, WRONG, RIGHT = "#1f2328", "#59636e", "#cf222e", "#8c959f"
TRAIN, VAL = "#8c959f", "#0969da"


def curves(run: Run) -> bytes | None:
    """Loss and agreement by epoch as a PNG on white; None where the training left no record."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [
        ("loss", {"train_loss": ("train", TRAIN), "val_loss": ("val", VAL)}),
        ("agreement with the teacher, val", {"val_agreement": ("val", VAL)}),
    ]
    drawn = [(title, lines) for title, lines in panels if any(_seen(run.training, name).any() for name in lines)]
    if not drawn:
        return None
    style: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": SOFT}
    with mpl.rc_context(style | {"text.color": INK, "axes.labelcolor": SOFT, "xtick.color": SOFT, "ytick.color": SOFT}):
        figure = Figure(figsize=(4.2 * len(drawn), 2.6), dpi=160, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        for axes, (title, lines) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
            _panel(axes, title, lines, run.training)
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _panel(axes: Any, title: str, lines: dict[str, tuple[str, str]], training: dict[str, Floats]) -> None:
    for name, (label, color) in lines.items():
        seen = _seen(training, name)
        epochs = training["epoch"] if _seen(training, "epoch").all() and "epoch" in training else np.arange(len(seen))
        axes.plot(epochs[seen], training.get(name, epochs)[seen], color=color, label=label, linewidth=1.8)
    axes.set_title(title, loc="left", fontsize=9, color=INK)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", color="#d1d9e0", linewidth=0.6)
    if len(lines) > 1:
        axes.legend(frameon=False)


def _seen(training: dict[str, Floats], name: str) -> Any:
    """Where a column has a number that can be drawn."""
    return np.abs(training.get(name, np.empty(0))) < MAX_LOSS


def captioned(run: Run, sheet: Path) -> bytes | None:
    """The sheet that `worst_images` made, with the answers for each photo, as a JPEG; None where it is no such sheet.

    The photos are decoded and encoded anew, so that no byte of the file is passed on; the words are ours.
    """
    chosen = worst(run.labels, run.threshold)
    rows = -(-len(chosen) // COLUMNS)
    photos = _decoded(sheet, (COLUMNS * SIDE, rows * SIDE)) if rows else None
    if photos is None:
        return None
    step, tall = SIDE + GAP, SIDE + CAPTION + GAP
    page = Image.new("RGB", (min(COLUMNS, len(chosen)) * step + GAP, rows * tall + GAP), GROUND)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=14)
    for place, index in enumerate(chosen):
        column, row = place % COLUMNS, place // COLUMNS
        left, top = GAP + column * step, GAP + row * tall
        photo = photos.crop((column * SIDE, row * SIDE, (column + 1) * SIDE, (row + 1) * SIDE))
        page.paste(photo, (left, top))
        wrong, lines = _caption(run.labels, int(index), run.threshold)
        draw.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), outline=WRONG if wrong else RIGHT, width=3)
        for line, text in enumerate(lines):
            draw.text((left, top + SIDE + 3 + 18 * line), text, fill=WRONG if wrong and not line else INK, font=font)
    out = io.BytesIO()
    page.save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()


def _decoded(path: Path, size: tuple[int, int]) -> Image.Image | None:
    """A JPEG of exactly this size, in RGB; None if it is something else, or damaged."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_BYTES:
        return None
    try:
        with Image.open(path, formats=("JPEG",)) as image:
            return image.convert("RGB") if image.size == size else None
    except Exception:  # decoders raise OSError, SyntaxError, ValueError and more; a picture less is no harm
        return None


def _caption(labels: LabeledPhotos, index: int, threshold: float) -> tuple[bool, tuple[str, str]]:
    """Whether it is answered wrongly, and the two lines below it."""
    student, truth = labels.student[index], bool(labels.reference[index])
    wrong = bool((student >= threshold) != truth)
    who = "person" if labels.labeled[index] else "teacher"
    answer = f"{who}: {'yes' if truth else 'no'}"
    first = f"{'wrong' if wrong else 'right'}: {'yes' if student >= threshold else 'no'} ({score(student)})"
    return wrong, (first, answer if who == "person" else f"{answer} ({score(labels.teacher[index])})")
