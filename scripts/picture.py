"""Draw docs/picture.svg, the README's picture, from what `scripts/demo` made: its pictures, its gate, its model.

python scripts/picture.py demo docs/picture.svg
"""

from __future__ import annotations

import argparse
import base64
import io
from html import escape
from pathlib import Path

from PIL import ImageOps

from clip_factory.run_folder import RunFolder, read_json
from clip_factory.run_request import newest_finished
from clip_factory.runtime import Model, read_rgb
from clip_factory.scenario import load

TILE, COLUMNS, ROWS = 72, 4, 4
INK, SOFT, GROUND, YES, NO = "#1f2933", "#627180", "#f6f4ef", "#2f7d4f", "#9aa5b1"


def main() -> None:
    """Parse, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="folder that scripts/demo filled")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    run = newest_finished(options.demo / "runs", options.demo / "scenario.yaml")
    options.out.write_text(draw(options.demo / "images", run), encoding="utf-8")


def draw(images: Path, run: RunFolder) -> str:
    """The SVG: photos on the left, the factory in the middle, the same photos answered on the right."""
    model, gate, scenario = (
        Model.load(run.file("model.onnx")),
        read_json(run.file("gate.json")),
        load(run.file("scenario.yaml")),
    )
    photos = sorted(images.glob("img_*.jpg"))[: COLUMNS * ROWS]
    answers = [prediction.label or "no" for prediction in model.predict(photos)]
    pictures = [thumbnail(path) for path in photos]
    figures = gate["figures"]
    agreement = next(clause for clause in gate["clauses"] if clause["name"] == "agreement")
    middle = [
        ("question", f"“{escape(scenario.asked)}”"),
        ("teacher", "CLIP labels the photos from words"),
        ("student", "a tiny network learns the labels"),
        ("gate", f"agreement {agreement['figure']:.1%} on {agreement['n']} unseen photos: {agreement['verdict']}"),
        (
            "model.onnx",
            f"one file, {figures['bytes'] / 1000:.0f} kB, {figures['latency_ms']['one_image']:.2f} ms a photo",
        ),
    ]
    body = grid(24, 44, pictures, None) + grid(816, 44, pictures, answers) + steps(364, 62, middle)
    width, height = 816 + COLUMNS * TILE + 24, 44 + ROWS * TILE + 28
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, -apple-system, Segoe UI, Roboto, sans-serif">'
        f'<rect width="{width}" height="{height}" rx="14" fill="{GROUND}"/>'
        f'<text x="24" y="30" font-size="15" fill="{SOFT}">raw photos</text>'
        f'<text x="816" y="30" font-size="15" fill="{SOFT}">answers, without torch or network</text>{body}</svg>\n'
    )


def thumbnail(path: Path) -> str:
    """A square JPEG of the photo as a data URI."""
    buffer = io.BytesIO()
    ImageOps.fit(read_rgb(path), (2 * TILE, 2 * TILE)).save(buffer, "JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def grid(left: int, top: int, pictures: list[str], answers: list[str] | None) -> str:
    """Tiles; with answers, those that are a yes are framed and the others faded."""
    parts = []
    for index, picture in enumerate(pictures):
        x, y, side = left + index % COLUMNS * TILE, top + index // COLUMNS * TILE, TILE - 6
        faded = ' opacity="0.3"' if answers and answers[index] == "no" else ""
        parts.append(f'<image x="{x}" y="{y}" width="{side}" height="{side}" href="{picture}"{faded}/>')
        if answers and answers[index] == "yes":
            frame = f'x="{x + 1.5}" y="{y + 1.5}" width="{side - 3}" height="{side - 3}"'
            parts.append(f'<rect {frame} fill="none" stroke="{YES}" stroke-width="4"/>')
    return "".join(parts)


def steps(left: int, top: int, rows: list[tuple[str, str]]) -> str:
    """The stages, one below the other, between two arrows."""
    parts = []
    for index, (name, text) in enumerate(rows):
        y = top + index * 60
        parts.append(f'<text x="{left}" y="{y}" font-size="17" font-weight="650" fill="{INK}">{name}</text>')
        parts.append(f'<text x="{left}" y="{y + 22}" font-size="15" fill="{SOFT}">{text}</text>')
        if index + 1 < len(rows):
            parts.append(
                f'<path d="M{left + 6} {y + 31} v8 m-4 -3 l4 4 l4 -4" fill="none" stroke="{NO}" stroke-width="1.5"/>'
            )
    return "".join(parts)


if __name__ == "__main__":
    main()
