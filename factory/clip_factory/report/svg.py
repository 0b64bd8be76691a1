"""The surface that plots are drawn on: inline SVG that takes its colors and its type from the page.

Matplotlib draws with stand-in colors, which are then replaced by the page's CSS variables: one drawing is legible
on light, on dark and on paper, and text stays text. No words of a user enter a plot.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, SOFT, LINE, YES, NO = "#010203", "#020304", "#030405", "#040506", "#050607"
_VARIABLES = {INK: "--ink", SOFT: "--soft", LINE: "--line", YES: "--yes", NO: "--no"}
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": INK,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.labelcolor": SOFT,
    "legend.handlelength": 1.2,
}


@dataclass(frozen=True)
class Plot:
    """One figure of the report."""

    title: str
    says: str
    """What it shows, in a sentence; for those who cannot see it, too."""
    svg: Markup | None
    """The drawing; None when there is nothing to draw, and `says` gives the reason."""
    key: tuple[tuple[str, str], ...] = ()
    """What its colors mean: pairs of `yes` or `no` and words."""


def svg(name: str, alt: str, draw: Callable[[Any], None]) -> Markup:
    """Draw on one pair of axes, 4.3 x 2.6 inches, and give the SVG the page's colors and fonts."""
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(4.3, 2.6), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", text)  # ids must be unique on the page
    text = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    text = re.sub(r' (?:width|height)="[^"]*pt"', "", text, count=2)  # the page sets the size
    opening = Markup('<svg role="img" aria-label="{}"').format(alt)
    return Markup(text.replace("<svg", opening, 1))  # noqa: S704  (drawn above: no words of a user)
