"""Bad scenarios, run folders, models, registries, answers, scores; and machines that lack what others have."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pyarrow as pa
import pyarrow.parquet as pq

from clip_factory import run_folder as files
from clip_factory.gold.journal import Journal
from clip_factory.runtime.releases.fetch import fetch
from clip_factory.scenario import load
from faults.trials import CODES, Trial, command

GOOD = "name: ball\npositive: [ball]\nnegative: [box]\nimages: {path: photos}\n"
SCENARIOS = [
    *("", "- a", "1", "null", "name", "name: [", "\t- x", "name: ball", "positive: [ball]", "{}", "'", "\0", "\ufeff"),
    *(GOOD + "extra: 1\n", GOOD + "name: other\n", GOOD.replace("ball", "Ball!", 1), GOOD.replace("[ball]", "ball")),
    *(GOOD.replace("[ball]", "[]"), GOOD.replace("[ball]", "[box]"), GOOD.replace("[ball]", "[1, 2]"), GOOD * 2),
    *(GOOD.replace("[ball]", "[no ball]"), GOOD.replace("ball]", "b\x1bll]"), GOOD.replace("ball]", '"a\\u202eb"]')),
    *(GOOD + f"student: {{{key}}}\n" for key in ("seed: -1", "seed: 1e99", "budget_kb: .inf", "budget_kb: .nan")),
    *(GOOD + f"student: {{{key}}}\n" for key in ("image_size: 33", "epochs: 0", "backbone: 7", "precision: int4")),
    *(GOOD + f"gate: {{{key}}}\n" for key in ("recall: 2", "recall: -1", "recall: .nan", "false_yes_cost: 0")),
    *(GOOD + f"target: {key}\n" for key in ("best", "{recall: 1}", "{}", "{costs: {false_no: .inf}}", "[balanced]")),
    *(
        GOOD + "teacher: {batch_size: 0}\n",
        GOOD + "teacher: 5\n",
        GOOD + "templates: [x]\n",
        GOOD + "templates: none\n",
    ),
    *(GOOD + "images: {path: a, url: b}\n", GOOD.replace("{path: photos}", "{url: 'http://x'}"), GOOD + "gold: [1]\n"),
    "a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b]\n"
    "d: &d [*c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d]\nname: [*e, *e, *e, *e, *e, *e]\n",
    "name: " + "[" * 5000,
    "name: &x [*x]\npositive: *x\n",
    GOOD + "question: '" + "q" * 100_000 + "'\n",
    "positive: [" + ", ".join(f"p{i}" for i in range(5000)) + "]\nname: a\n",
    "!!python/object/apply:os.system [touch /tmp/owned]\n",
    "name: !!binary aGVsbG8=\npositive: [ball]\n",
    "? [complex, key]\n: value\n",
    "%YAML 9.9\n---\n" + GOOD,
    "--- \n" + GOOD + "---\n" + GOOD,
]


def scenarios(folder: Path) -> Iterator[Trial]:
    """Scenario files: no YAML, wrong types, unknown keys, impossible numbers, endless aliases, control characters."""
    for number, text in enumerate(SCENARIOS):
        file = folder / f"{number}.yaml"
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        yield f"scenario {number}", lambda file=file: "read" if load(file) else ""
    for number, data in enumerate((b"\xff\xfe", b"name: caf\xe9\n", os.urandom(500), b"\x80" * 50)):
        file = folder / f"bytes{number}.yaml"
        file.write_bytes(data)
        yield f"bytes {number}", lambda file=file: "read" if load(file) else ""
    (folder / "folder.yaml").mkdir()
    yield "a folder", lambda: "read" if load(folder / "folder.yaml") else ""
    yield "nothing there", lambda: "read" if load(folder / "nowhere.yaml") else ""


def _tables(name: str) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """What a Parquet file of a run may be instead."""
    yield "no rows", lambda path: pq.write_table(pq.read_table(path).slice(0, 0), path)
    yield "other columns", lambda path: pq.write_table(pa.table({"x": [1]}), path)
    if name == files.LABELS:
        for column, value in (("sha256", 5), ("split", None), ("p_teacher", "high"), ("scores", [1.0]), ("path", None)):
            yield f"{column} of {value!r}", lambda path, column=column, value=value: _with(path, column, value)
        yield "scores of many lengths", lambda path: _ragged(path)
        yield (
            "metadata that is no JSON",
            lambda path: pq.write_table(pq.read_table(path).replace_schema_metadata({"phrases": "{"}), path),
        )


def _with(path: Path, column: str, value: object) -> None:
    table = pq.read_table(path)
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array([value] * table.num_rows)), path)


def _ragged(path: Path) -> None:
    table = pq.read_table(path)
    lists = [[0.5] * (8 if row % 2 else 6) + [0.1] * (row % 3) for row in range(table.num_rows)]
    place = table.column_names.index("scores")
    pq.write_table(table.set_column(place, "scores", pa.array(lists, pa.list_(pa.float32()))), path)


def _damages(name: str) -> Iterator[tuple[str, Callable[[Path], object]]]:
    yield "gone", lambda path: path.unlink()
    yield "empty", lambda path: path.write_bytes(b"")
    yield "half", lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    yield "noise", lambda path: path.write_bytes(random.Random(3).randbytes(2000))
    yield "a folder", lambda path: (path.unlink(), path.mkdir())
    if name.endswith(".json"):
        for text in (
            "[]",
            "null",
            "7",
            '"x"',
            "{}",
            '{"clauses": 5, "figures": [], "verdict": 3, "files": 1}',
            "[" * 9999,
        ):
            yield f"JSON {text[:20]}", lambda path, text=text: path.write_text(text)
    if name.endswith(".parquet"):
        yield from _tables(name)
    if name.endswith((".yaml", ".csv", ".jsonl")):
        for text in ("\0", "a: [", "time\n", '{"event": 5}\n', "[]\n", "null\n", "\xff"):
            yield f"text {text!a}", lambda path, text=text: path.write_text(text, encoding="latin-1")


COMMANDS = {
    "publish": lambda run, store: command("publish", run, "--to", store / "registry"),
    "predict": lambda run, store: command("predict", run, run.parent / "images", "--format", "csv", "--only", "yes"),
    "threshold": lambda run, store: command("threshold", run, "--target", "recall=0.9"),
    "compare": lambda run, store: command("compare", run, run.parent / "other"),
    "review": lambda run, store: command("review", run, "--store", store, "--export", store / f"{random.random()}.csv"),
}


def run_folders(folder: Path, run: Path, store: Path) -> Iterator[Trial]:
    """Every file of a run folder gone, empty, cut, noise, a folder, of another form; by every command that reads it."""
    home = run.parent
    shutil.copytree(run, home / "other")
    for name in (*files.FILES, files.MANIFEST, files.LOG):
        for what, damage in _damages(name):
            for verb, call in COMMANDS.items():

                def trial(name: str = name, damage: Any = damage, call: Any = call) -> str:
                    copy = home / "tried"
                    shutil.rmtree(copy, ignore_errors=True)
                    shutil.copytree(run, copy)
                    damage(copy / name)
                    return str(call(copy, store))

                if (run / name).exists():
                    yield f"{name} {what}, {verb}", trial


WRONG_METADATA: dict[str, list[str | None]] = {
    "format": [None, "clip-factory/2", ""],
    "name": [None, "", "x" * 5000, "\x1b[31m"],
    "question": [None, "q" * 100_000],
    "classes": [None, "[]", "{", '["yes","no"]', "[" * 5000],
    "threshold": [None, "2", "-1", "nan", "inf", "x", "1e999", ""],
    "image_size": [None, "0", "-8", "1e9", "9" * 400, "64.5", "x"],
    "preprocessing": [None, "{}", "[]", '{"resize": "crop"}', "{"],
    "test_vectors": ["[]", "{", '[{"thumb": "x", "probability": 2}]', "7", "null"],
    "teacher": ["7", "{", "[]", '{"name": 3}'],
    "scores": ["{", "7", '{"counts": "x"}'],
}


def models(folder: Path, model: Path, photo: Path) -> Iterator[Trial]:
    """Model files: cut, noise, metadata of other types, numbers that are none, another graph."""
    good = model.read_bytes()
    number = itertools.count()

    def trial_of(name: str, data: bytes) -> Trial:
        file = folder / f"{next(number)}.onnx"
        file.write_bytes(data)
        return name, lambda: command("predict", file, photo)

    for key, values in WRONG_METADATA.items():
        for value in values:
            proto = onnx.load_from_string(good)
            entries = {entry.key: entry.value for entry in proto.metadata_props}
            entries.pop(key, None)
            del proto.metadata_props[:]
            onnx.helper.set_model_props(proto, entries | ({} if value is None else {key: value}))
            yield trial_of(f"{key}={str(value)[:20]}", proto.SerializeToString())
    chance = random.Random(5)
    for share in (0, 0.01, 0.3, 0.9, 0.999):
        yield trial_of(f"cut at {share}", good[: int(len(good) * share)])
    for turn in range(20):
        changed = bytearray(good)
        for _ in range(1 + turn):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        yield trial_of(f"changed {turn}", bytes(changed))
    yield trial_of("noise", chance.randbytes(5000))


def registries(folder: Path, registry: Path) -> Iterator[Trial]:
    """The index of a registry: cut, noise, keys of other types, gone; blobs gone."""
    text = (registry / "index.json").read_text()
    chance = random.Random(8)

    def trial_of(name: str, data: bytes, *arguments: str) -> Trial:
        def trial() -> str:
            copy = folder / "tried"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(registry, copy)
            (copy / "index.json").write_bytes(data)
            if arguments[0] == "fetch":
                return "fetched" if fetch(arguments[1], copy).data else ""
            return command("models", *arguments, "--registry", copy)

        return name, trial

    for number in range(40):
        tree = json.loads(text)
        _spoil(tree, chance)
        for arguments in (("list",), ("show", "red-ball@champion"), ("fetch", "red-ball@champion")):
            yield trial_of(f"index {number}", json.dumps(tree).encode(), *arguments)
    for data in (b"", b"{", b"[]", b"null", b"{}", text.encode()[:200], b"[" * 20_000, os.urandom(300)):
        yield trial_of("no index", data, "list")
        yield trial_of("no index", data, "fetch", "red-ball")


def _spoil(tree: Any, chance: random.Random) -> None:
    """Put something of another type at a random place."""
    place = tree
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = chance.choice(keys)
        inside = place[key]
        if not isinstance(inside, dict | list) or not inside or chance.random() < 0.2:
            place[key] = chance.choice([None, -1, 1e400, "\x1b[31m", "../../x", [], {}, True, "x" * 5000])
            return
        place = inside


LINES = [
    *("", "{", "[]", "null", "7", "{}", '{"event": "answer"}', '{"event": "answer", "images": 5}', "\0", "\x1b[31m"),
    *('{"sha256": ["x"], "answer": "maybe"}', '{"time": 1e999, "event": "answer"}', "[" * 3000, '"\ud800"'),
]


def journals(folder: Path) -> Iterator[Trial]:
    """Lines of a file of answers: cut, of other types, of another form."""
    journal = Journal(folder / "good.answers.jsonl")
    journal.answer("Ann", {"a" * 64: "a.jpg"}, "yes")
    good = journal.path.read_text()
    for number, line in enumerate(LINES):
        for place, text in (("before", line + "\n" + good), ("after", good + line + "\n"), ("at the end", good + line)):
            file = folder / f"{number}-{place.replace(' ', '-')}.answers.jsonl"
            file.write_text(text, encoding="utf-8", errors="surrogatepass")

            def trial(file: Path = file) -> str:
                assert Journal(file).ledger().gold == {"a" * 64: True}, "an answer is lost"
                return "read, the line passed over"

            yield f"{line[:20]!a} {place}", trial


SCORES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"7",
    b'{"model": 5}',
    b'{"model": "x", "counts": [1]}',
    b"a,b\n1,2\n",
    b"\xff\xfe",
]
SCORES += [b"path,probability\na.jpg,2\n", b"path,probability\na.jpg,nan\n", b"[" * 20_000, b"\0" * 100]
SCORES += [b'{"probability": "x"}\n', b'{"probability": 1e999}\n', b"path,probability\n" + b"x" * 3_000_000]


def scores(folder: Path, model: Path) -> Iterator[Trial]:
    """What `factory drift` is given: no JSON, no numbers, no lines."""
    for number, data in enumerate(SCORES):
        file = folder / f"{number}.json"
        file.write_bytes(data)
        yield f"scores {number}", lambda file=file: command("drift", model, file)


ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    "no HOME": {"HOME": None, "XDG_CACHE_HOME": None},
    "a HOME that is not there": {"HOME": "/nowhere/at/all"},
    "a HOME that cannot be written": {"HOME": "/proc"},
    "stdout in Latin-1": {"PYTHONIOENCODING": "latin-1"},
    "stdout in ASCII": {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
    "SLURM": {"SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_JOB_ID": "7", "SLURM_LOCALID": "1"},
    "MPI": {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1", "PMI_RANK": "1", "PMI_SIZE": "4"},
    "torchrun": {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1"},
    "a proxy that is dead": {"HTTPS_PROXY": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"},
    "certificates that are not there": {"SSL_CERT_FILE": "/nowhere.pem", "REQUESTS_CA_BUNDLE": "/nowhere.pem"},
    "a narrow terminal": {"COLUMNS": "1", "TERM": "dumb"},
    "no PATH": {"PATH": ""},
    "a store that cannot be written": {"FACTORY_STORE": "/proc/store"},
    "a cache that cannot be written": {"FACTORY_CACHE": "/proc/cache"},
    "no temporary folder": {"TMPDIR": "/nowhere"},
}


BOTH = ("no HOME", "a HOME that cannot be written", "SLURM", "stdout in ASCII", "a store that cannot be written")
"""Machines on which a stage is tried as well, which takes seconds to start."""


def environments(folder: Path, model: Path) -> Iterator[Trial]:
    """Machines without HOME, passwd entry, writable store or UTF-8; under SLURM, MPI, a proxy, umask 077."""
    (folder / "photos").mkdir()
    shutil.copy(Path(__file__), folder / "photos" / "notes.txt")
    photo = folder / "photos" / os.fsdecode("caf\u00e9.png".encode())
    from faults.photo_kinds import picture

    picture().save(photo)
    (folder / "ball.yaml").write_text(GOOD + "teacher: {model: offline}\n", encoding="utf-8")
    programs = {
        "predict": ["predict", str(model), "photos", "--format", "csv"],
        "scan": ["scan", "ball.yaml", "--out", "runs", "--store", "store"],
    }
    for what, changes in ENVIRONMENTS.items():
        own_store = what == "a store that cannot be written"
        for verb in ("predict", "scan") if what in BOTH else ("predict",):
            words = programs[verb][:-2] if own_store and verb == "scan" else programs[verb]

            def trial(changes: dict[str, str | None] = changes, words: list[str] = words, umask: int = 0o22) -> str:
                environment = {key: value for key, value in os.environ.items() if key not in changes}
                environment |= {key: value for key, value in changes.items() if value is not None}
                done = subprocess.run(
                    [sys.executable, "-m", "clip_factory", *words],
                    cwd=folder, env=environment, capture_output=True, check=False, timeout=60, umask=umask,
                )  # fmt: skip
                assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
                assert done.returncode in CODES, done.stderr.decode(errors="replace")
                return CODES[done.returncode]

            yield f"{what}, {verb}", trial
            if what == "no HOME":
                yield f"umask 077, {verb}", lambda trial=trial, words=words: trial({}, words, 0o77)
