"""How fast the review page is: first paint, blank cells while scrolling, memory of the server.

    python benchmarks/review_page.py PHOTOS --count 10000

Makes up a run on the photos (labels and vectors are random: the page does not care), serves it as `factory review`
does, and scrolls through all of it in Chromium, first in steps of a wheel, then in jumps to random places. A cell is
blank from the frame in which it is on the screen until its photo is there. Needs a checkout, for
tests/support/make_run.py.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from playwright.sync_api import Page, sync_playwright

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from clip_factory import run_folder as files
from clip_factory.runtime import find_images
from clip_factory.store import EmbeddingStore
from support import make_run

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]

WATCH = """() => {
  const grid = document.getElementById("grid"), seen = new Map(), waits = [];
  let last = performance.now(), slowest = 0;
  const look = () => {
    const now = performance.now(), { top, bottom } = grid.getBoundingClientRect();
    slowest = Math.max(slowest, now - last); last = now;
    const blank = new Set();
    for (const cell of grid.querySelectorAll(".cell")) {
      const box = cell.getBoundingClientRect(), image = cell.querySelector("img"), { at } = cell.dataset;
      if (box.bottom <= top || box.top >= bottom || (image.complete && image.naturalWidth)) continue;
      blank.add(at);
      if (!seen.has(at)) seen.set(at, now);
    }
    for (const [at, since] of seen) if (!blank.has(at)) { waits.push(now - since); seen.delete(at); }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
  window.figures = () => {
    const found = { longest: Math.max(0, ...waits), blanks: waits.length, slowest, open: seen.size };
    found.late = waits.filter((wait) => wait > 200).length;
    [waits.length, slowest] = [0, 0];
    return found;
  };
}"""


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of photos")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the browser")
    parser.add_argument("--steps", type=int, default=200, help="turns of the wheel")
    parser.add_argument("--jumps", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="review-page-") as folder:
        run, store = make_up(options.photos, options.count, Path(folder))
        start = time.perf_counter()
        server = serve(run, store)
        try:
            url = server.stdout.readline().strip()
            print(f"load average {os.getloadavg()[0]:.1f}; the server was up after {time.perf_counter() - start:.1f} s")
            measure(options, url, server.pid)
        finally:
            server.kill()
            server.wait()


def make_up(photos: Path, count: int, folder: Path) -> tuple[Path, Path]:
    """A run on up to `count` photos, and a store with vectors for it."""
    names = find_images(photos)[:count]

    def link(root: Path, *_: Any) -> list[dict[str, Any]]:
        root.symlink_to(photos.resolve())
        contents = {files.sha256_file(path): path for path in names}
        return [
            {"path": path.relative_to(photos).as_posix(), "yes": number % 3 == 0, "sha256": sha, "bytes": 1}
            for number, (sha, path) in enumerate(contents.items())
        ]

    make_run._draw_photos = link
    _, run = make_run.make_run(folder, make_run.RunKind(images=count, gold=0))
    sha256s = pq.read_table(run.file(files.LABELS), columns=["sha256"])["sha256"].to_pylist()
    vectors = np.random.default_rng(0).normal(size=(len(sha256s), 384)).astype(np.float32)
    with EmbeddingStore(folder / "store").writer(make_run.TEACHER, {}) as writer:
        writer.add(sha256s, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return run.path, folder / "store"


def serve(run: Path, store: Path) -> subprocess.Popen[str]:
    """The server, as a user starts it."""
    command = [sys.executable, "-m", "clip_factory", "review", str(run), "--no-browser", "--store", str(store)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def measure(options: argparse.Namespace, url: str, pid: int) -> None:
    """Open the page, scroll, print the figures."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=FLAGS, timeout=120_000)
        page = browser.new_page(viewport={"width": 1360, "height": 860})
        page.set_default_timeout(120_000)
        start = time.perf_counter()
        page.goto(url)
        page.locator('[data-at="0"] img[src]').evaluate("image => image.decode()")
        paint = page.evaluate(
            "performance.getEntriesByType('paint').find(p => p.name.includes('contentful')).startTime"
        )
        print(f"first contentful paint {paint:.0f} ms, photos in place {1000 * (time.perf_counter() - start):.0f} ms")
        page.evaluate(WATCH)
        page.mouse.move(600, 400)
        report(page, "wheel", options.steps, lambda _: page.mouse.wheel(0, 240))
        height = page.evaluate("document.getElementById('grid').scrollHeight")
        places = np.random.default_rng(1).integers(0, height, options.jumps).tolist()
        jump = "to => document.getElementById('grid').scrollTop = to"
        report(page, "jumps", options.jumps, lambda step: page.evaluate(jump, places[step]), pause=600)
        status = Path(f"/proc/{pid}/status").read_text()
        sizes = [line.split()[1] for line in status.splitlines() if line.startswith(("VmHWM", "VmRSS"))]
        print(f"server: {int(sizes[1]) / 1e3:.0f} MB in memory, {int(sizes[0]) / 1e3:.0f} MB at its peak")
        browser.close()


def report(page: Page, what: str, steps: int, step: Any, pause: float = 50) -> None:
    """Scroll and print what was blank, and for how long."""
    for number in range(steps):
        step(number)
        page.wait_for_timeout(pause)
    page.wait_for_timeout(1000)
    figures = page.evaluate("figures()")
    print(
        f"{what}: {steps} steps, {figures['blanks']} cells were blank at all, {figures['late']} of them over 200 ms, "
        f"the longest for {figures['longest']:.0f} ms; slowest frame {figures['slowest']:.0f} ms; "
        f"{figures['open']} at the end"
    )


if __name__ == "__main__":
    main()
