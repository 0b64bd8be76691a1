"""Makes the files of this folder with version 0.1.0, whose package was still called `factory`.

    PYTHONPATH=CHECKOUT_OF_0.1.0 python tests/made_by_0_1_0/make.py NEW_FOLDER

Nothing runs this again: the files are kept as that version wrote them. It says how they came about. The absolute path
of the folder that they were made in is replaced by `ROOT` afterwards (`tests/project/test_made_by_0_1_0.py` puts
another in).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

SCENARIO = """\
# A scenario as version 0.1.0 documented it.
name: soccer-ball
question: Is there a soccer ball?
positive: [soccer ball]
negative: [golf ball, tennis ball, basketball, orange, granny smith apple, coffee mug, wall clock]
templates: photo
images: {path: photos/}
gold: gold.csv
teacher: {model: offline, batch_size: 32}
student: {backbone: resnet-mini, image_size: 48, epochs: 14, budget_kb: 120, seed: 3}
target: {recall: 0.8}
gate: {recall: 0.5, precision: 0.4, balanced_agreement: 0.5, agreement: 0.5, gold_accuracy: 0.5, parity: 0.05}
"""
FORMS = {
    "least.yaml": "name: forklift\npositive: [forklift]\n",
    "address.yaml": (
        "name: red_ball\nquestion: Is there a red ball?\npositive: [red ball, red rubber ball on the floor]\n"
        "negative: [apple]\ntemplates: ['a photo of a {}.', 'a {}']\n"
        f"images: {{url: 'https://example.org/photos.zip', sha256: {'AB' * 32}}}\n"
        "teacher: {model: ViT-B-32, pretrained: laion2b_s34b_b79k}\n"
    ),
    "older_costs.yaml": (
        "name: van\npositive: [van]\nnegative: [lorry, bus]\nimages: {path: vans.zip}\ngold: vans.csv\n"
        "answers: people/vans.answers.jsonl\nteacher: {model: 'hf-hub:OWNER/NAME'}\n"
        "gate: {false_no_cost: 5, agreement: 0.9}\n"
    ),
    "costs.yaml": (
        "name: cat\npositive: [cat]\nnegative: [dog]\ntarget: {costs: {false_yes: 2}}\nstudent: {mirror: false}\n"
    ),
    "alarms.yaml": (
        "name: street\npositive: [street]\nnegative: [field]\ntarget: {false_alarms: 0.01}\n"
        "teacher: {model: 'local-dir:/models/clip', batch_size: 8}\nstudent: {backbone: mobilenetv3, weights: hub}\n"
    ),
    "balanced.yaml": "name: dog\npositive: [dog]\nnegative: [cat]\ntarget: balanced\ntemplates: photo\n",
}
"""Scenario files of every form that version 0.1.0 knew."""
PHOTOS = 84
SIDE = 64


def factory(folder: Path, *arguments: str, allowed: tuple[int, ...] = (0, 4)) -> str:
    """What a command of version 0.1.0 prints, run in `folder`."""
    command = [sys.executable, "-m", "factory", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode in allowed, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def render(folder: Path) -> dict[str, str]:
    """Small photos below `folder`, and the answer to each by file name."""
    from factory.demo import _renderer

    _renderer().render_set(folder / "rendered", PHOTOS, seed=5)
    (folder / "photos").mkdir()
    rows = [line.split(",") for line in (folder / "rendered" / "truth.csv").read_text().splitlines()[1:]]
    answers = {}
    for name, answer in rows:
        if name.endswith(".jpg") and int(name[4:8]) <= PHOTOS:
            picture = Image.open(folder / "rendered" / "images" / name).convert("RGB")
            picture.resize((SIDE, SIDE)).save(folder / "photos" / name, quality=64)
            answers[name] = answer
    shutil.copy(folder / "photos" / "img_0001.jpg", folder / "photos" / "twice.jpg")
    (folder / "photos" / "broken.jpg").write_bytes(b"")
    shutil.rmtree(folder / "rendered")
    return answers


def write_gold(folder: Path, answers: dict[str, str]) -> None:
    """Two thirds of the answers in a CSV, some of the others in a journal with every kind of line."""
    from factory.artifacts import sha256_file
    from factory.review.answers import Journal

    known = sorted(answers.items())
    lines = [f"{name},{answer}" for i, (name, answer) in enumerate(known) if i % 3]
    (folder / "gold.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    asked = [(sha256_file(folder / "photos" / name), name, answer) for name, answer in known[::3]]
    journal = Journal(folder / "soccer-ball.answers.jsonl")
    journal.asked("Ada", {sha: name for sha, name, _ in asked[:12]}, [sha for sha, _, _ in asked[:6]], 6)
    for answer in ("yes", "no"):
        journal.answer("Ada", {sha: name for sha, name, said in asked[:12] if said == answer}, answer, minutes=0.5)
    first, second, third, fourth = ({sha: name} for sha, name, _ in asked[:4])
    journal.answer("Bob", first, "unsure")
    journal.answer("Bob", second, "no" if asked[1][2] == "yes" else "yes")
    journal.answer("Bob", third, "no")
    journal.answer("Ada", third, "yes", resolves=True)
    journal.answer("Ada", fourth, None)
    journal.answer("Bob", fourth, "unsure")
    journal.answer("Bob", {asked[4][0]: asked[4][1]}, "no")
    journal.undo("Bob")
    with open(journal.path, "ab") as file:
        file.write(b'{"time": "2026-11-25T10:00:00.000+00:00", "act": "cut sh')


def shorten(run: Path) -> None:
    """Put a small page in the place of a run's report, for the sake of this folder's size."""
    from factory.artifacts import FILES, RunFolder, read_json, write_json

    (run / "report.html").write_text("<!doctype html><title>report</title>", encoding="utf-8")
    manifest = read_json(run / "manifest.json")
    write_json(run / "manifest.json", manifest | {"files": RunFolder(run).hashes(FILES)})


def publish(folder: Path, run: Path) -> None:
    """A registry of two versions, signed, with an alias that was moved, promoted and rolled back."""
    factory(folder, "models", "keys", "keys/")
    common = ("--key", "keys/private.pem", "--by", "ada@example.org", "--allow-unproven")
    copy = folder / "copy"
    shutil.copytree(run, copy)
    shorten(copy)
    factory(folder, "publish", str(copy), "--to", "registry/", "--alias", "champion", *common)
    factory(folder, "threshold", str(copy), "--recall", "0.9")
    shorten(copy)
    factory(folder, "publish", str(copy), "--to", "registry/", *common)
    moved = ("--registry", "registry/", "--by", "bob@example.org")
    factory(folder, "models", "promote", "soccer-ball@2", "champion", "--allow-unproven", *moved)
    factory(folder, "models", "promote", "soccer-ball@2", "staging", *moved)
    factory(folder, "models", "rollback", "soccer-ball", "champion", *moved)
    shutil.rmtree(copy)
    (folder / "public.pem").write_bytes((folder / "keys" / "public.pem").read_bytes())
    shutil.rmtree(folder / "keys")


def expected(folder: Path, run: Path) -> dict[str, object]:
    """What version 0.1.0 itself reads in these files."""
    from factory.artifacts import RunFolder
    from factory.pipeline import verdict
    from factory.review.answers import Journal
    from factory.runtime import Model
    from factory.scenario import load

    ledger = Journal(folder / "soccer-ball.answers.jsonl").ledger()
    model = Model.load(run / "model.onnx")
    photos = sorted((folder / "photos").glob("img_*.jpg"))
    found = verdict(RunFolder(run))
    registry = ("--registry", "registry/", "--format", "json")
    return {
        "scenarios": {name: load(folder / "scenarios" / name).model_dump(mode="json") for name in sorted(FORMS)},
        "probabilities": {p.name: q.probability for p, q in zip(photos, model.predict(photos), strict=True)},
        "threshold": model.threshold,
        "verdict": {"state": found.state, "headline": found.headline},
        "gold": ledger.gold,
        "withheld": sorted(ledger.withheld),
        "drawn": sorted(ledger.drawn),
        "digest": ledger.digest(),
        "list": json.loads(factory(folder, "models", "list", "soccer-ball", *registry)),
        "show": json.loads(factory(folder, "models", "show", "soccer-ball@champion", *registry)),
        "evaluate": json.loads(
            factory(folder, "evaluate", str(run), "--gold", "gold.csv", "--format", "json", allowed=(0, 3))
        ),
    }


def detach(folder: Path, run: Path) -> None:
    """Replace the folder's absolute path by ROOT, and leave out what says nothing."""
    here = str(folder.resolve())
    kept = [run / name for name in ("scenario.yaml", "log.jsonl", "manifest.json")]
    for path in [*kept, folder / "expected.json"]:
        path.write_text(path.read_text().replace(here, "ROOT"))
    for path in folder.rglob("*"):
        if path.name.endswith((".lock", ".sqlite", "-shm", "-wal")) or path.name == "labels.html":
            path.unlink()


def main(folder: Path) -> None:
    """Make all files below `folder`, which must not be there yet."""
    folder.mkdir(parents=True)
    write_gold(folder, render(folder))
    (folder / "soccer-ball.yaml").write_text(SCENARIO)
    (folder / "scenarios").mkdir()
    for name, text in FORMS.items():
        (folder / "scenarios" / name).write_text(text)
    factory(folder, "run", "soccer-ball.yaml", "--out", "out", "--store", "store")
    run = folder / "run"
    next((folder / "out" / "soccer-ball").glob("2*")).rename(run)
    shutil.rmtree(folder / "out")
    publish(folder, run)
    said = expected(folder, run)
    (folder / "expected.json").write_text(json.dumps(said, indent=1) + "\n")
    detach(folder, run)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
