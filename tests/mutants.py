"""Mutation testing of the core: small breaks of its code, made one by one by mutmut, each of which a test must notice.

    scripts/mutants                            every room: a table, and each survivor as a diff
    scripts/mutants --room splits              one room
    scripts/mutants --sample 60 --seed 1       a part of all, as CI does it
    scripts/mutants --only 'splits.x_assign*'  some mutants, by mutmut's names

Mutants that change nothing that anybody could notice stand in `equivalent_mutants.toml`, each with its reason; they are
not counted. What mutmut leaves alone is said in docs/testing.md. Exit code 1: a room is below the bar.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".mutants"
BAR = 0.9
"""The least share of the mutants of a room that tests must notice."""
COPIED = ("tests", "docs", "README.md")
PYTEST = ["-m", "core", "-p", "no:cacheprovider", "-p", "no:unraisableexception", "-p", "no:threadexception"]
"""The last two collect garbage after each test: with torch in memory that takes longer than most of the tests."""
FIXTURE_COUNT = """
import json


def pytest_collection_finish(session):
    counts = {}
    for item in session.items:
        used = [found[-1] for found in item._fixtureinfo.name2fixturedefs.values()]
        counts[item.nodeid] = sum(f.scope in ("session", "module") and f.baseid.startswith("tests") for f in used)
    with open("fixture_count.json", "w") as file:
        json.dump(counts, file)
"""
"""A plugin of pytest: how many shared fixtures each test needs."""
FIXTURE_SECONDS = 0.5
"""What each is taken for."""
UNNOTICED = (None, 0, 5, 33)
"""Exit codes of a mutant that no test noticed: not tried, all passed, no test ran, no test runs the function."""


@dataclass(frozen=True)
class Room:
    """Modules that are broken, and the tests that should notice."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


ROOMS = {
    "labeling and refinement": Room(
        (
            "label_sources/labeling.py",
            "label_sources/probabilities.py",
            "label_sources/refinement.py",
            "label_sources/source.py",
            "label_sources/zero_shot.py",
            "labels.py",
        ),
        ("tests/label_sources", "tests/test_labels.py"),
    ),
    "transduction": Room(
        (
            "label_sources/auto_refinement.py",
            "label_sources/gaussian_classes.py",
            "label_sources/transduction.py",
        ),
        ("tests/label_sources",),
    ),
    "probe": Room(("label_sources/probe.py",), ("tests/label_sources",)),
    "splits": Room(("splits.py",), ("tests/test_splits.py",)),
    "statistics": Room(("statistics.py",), ("tests/test_statistics.py",)),
    "students": Room(
        (
            "students/augmentation.py",
            "students/cross_fitting.py",
            "students/lightning_module.py",
            "students/network.py",
            "students/recipe.py",
            "students/training_data.py",
        ),
        (
            "tests/students/test_augmentation.py",
            "tests/students/test_cross_fitting.py",
            "tests/students/test_lightning_module.py",
            "tests/students/test_network.py",
            "tests/students/test_recipe.py",
            "tests/students/test_training.py",
            "tests/students/test_training_data.py",
        ),
    ),
    "exporters": Room(
        (
            "exporters/calibration.py",
            "exporters/onnx_exporter.py",
            "exporters/onnx_graph.py",
            "exporters/plan.py",
            "exporters/quantization.py",
        ),
        (
            "tests/exporters/test_calibration.py",
            "tests/exporters/test_onnx_exporter.py",
            "tests/exporters/test_onnx_graph.py",
            "tests/exporters/test_plan.py",
            "tests/exporters/test_quantization.py",
        ),
    ),
    "gate": Room(("gate/evidence.py", "gate/rule.py"), ("tests/gate",)),
}


@dataclass(frozen=True)
class Mutant:
    """One break, and what came of it."""

    name: str
    """mutmut's."""
    room: str
    killed: bool
    """Whether a test noticed."""
    diff: str = ""
    reason: str = ""
    """Why nobody can notice; empty for others."""


def main() -> int:
    """Run mutmut, print the table and the survivors."""
    arguments = _parser().parse_args()
    bench = Bench(arguments.work.resolve(), {n: r for n, r in ROOMS.items() if arguments.room in (None, n)})
    bench.lay_out()
    names = bench.names()
    if arguments.sample:
        names = sample(names, arguments.sample, arguments.seed)
    if arguments.only:
        names = [name for name in names if fnmatch.fnmatch(name, f"*{arguments.only}")]
    bench.run(names, arguments.workers)
    return report(bench.judge(names), whole=not (arguments.sample or arguments.only))


@dataclass(frozen=True)
class Bench:
    """A folder in which mutmut works: sources and tests laid out as it expects them."""

    folder: Path
    rooms: Mapping[str, Room]

    def lay_out(self) -> None:
        """Copy sources and tests, and write mutmut's configuration."""
        shutil.rmtree(self.folder, ignore_errors=True)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "factory", self.folder / "src", ignore=ignored)
        for name in COPIED:
            source, target = ROOT / name, self.folder / name
            shutil.copytree(source, target, ignore=ignored) if source.is_dir() else shutil.copy2(source, target)
        (self.folder / "pyproject.toml").write_text(self._configuration(), encoding="utf-8")

    def names(self) -> list[str]:
        """Names of all mutants; mutmut makes them, and notes which tests run which function, before it tries any."""
        self._mutmut("run", "--max-children", "1", "none-is-called-so", quiet=True)
        self._count_fixtures()
        return [name for room in self.rooms.values() for module in room.modules for name in self._results(module)]

    def run(self, names: Iterable[str], workers: int) -> None:
        """Try mutants, so many at once."""
        self._mutmut("run", "--max-children", str(workers), *names, quiet=not sys.stdout.isatty())

    def judge(self, names: Iterable[str]) -> list[Mutant]:
        """What came of each."""
        wanted, found = set(names), []
        known = tomllib.loads((ROOT / "tests" / "equivalent_mutants.toml").read_text(encoding="utf-8"))["mutants"]
        for room, entry in self.rooms.items():
            for module in entry.modules:
                for name, code in self._results(module).items():
                    if name in wanted:
                        killed = code not in UNNOTICED
                        diff = "" if killed else self._mutmut("show", name, quiet=True)
                        found.append(Mutant(name, room, killed, diff, "" if killed else reason(module, diff, known)))
        return found

    def _count_fixtures(self) -> None:
        """Have tests that need shared fixtures tried last: mutmut orders them by their time without that of fixtures,
        which each mutant pays anew.
        """
        (self.folder / "mutants" / "fixture_count.py").write_text(FIXTURE_COUNT, encoding="utf-8")
        tests = [test for room in self.rooms.values() for test in room.tests]
        command = [sys.executable, "-m", "pytest", "-p", "fixture_count", "--collect-only", "-q", *PYTEST, *tests]
        subprocess.run(command, cwd=self.folder / "mutants", check=True, capture_output=True)
        counts = json.loads((self.folder / "mutants" / "fixture_count.json").read_text(encoding="utf-8"))
        stats = self.folder / "mutants" / "mutmut-stats.json"
        known = json.loads(stats.read_text(encoding="utf-8"))
        known["duration_by_test"] = {
            test: seconds + FIXTURE_SECONDS * counts.get(test, 0) for test, seconds in known["duration_by_test"].items()
        }
        stats.write_text(json.dumps(known), encoding="utf-8")

    def _results(self, module: str) -> dict[str, int | None]:
        """The exit code of the tests for each mutant of a module, None where they have not run."""
        path = self.folder / "mutants" / "src" / "clip_factory" / f"{module}.meta"
        return dict(json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"])

    def _configuration(self) -> str:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
        modules = [f"src/clip_factory/{module}" for room in self.rooms.values() for module in room.modules]
        tests = sorted({test for room in self.rooms.values() for test in room.tests})
        return f"""
[tool.pytest.ini_options]
addopts = {json.dumps(project["addopts"])}
markers = {json.dumps(project["markers"])}
pythonpath = ["src", "tests"]

[tool.mutmut]
source_paths = ["src"]
only_mutate = {json.dumps(modules)}
also_copy = {json.dumps([name for name in COPIED if name != "tests"])}
pytest_add_cli_args_test_selection = {json.dumps(tests)}
pytest_add_cli_args = {json.dumps(PYTEST)}
process_isolation = "forkserver"
timeout_multiplier = 1.0
timeout_constant = 10.0
use_setproctitle = false
use_git_change_detection = false
"""

    def _mutmut(self, *arguments: str, quiet: bool) -> str:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        command = [Path(sys.executable).parent / "mutmut", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=environment, text=True, capture_output=quiet, check=False)
        return done.stdout or ""


def sample(names: Iterable[str], count: int, seed: int) -> list[str]:
    """Some of the names, drawn so that a change elsewhere leaves the draw alone."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())[:count]


def reason(module: str, diff: str, known: Iterable[Mapping[str, str]]) -> str:
    """Why a mutant counts as equivalent, by the list; empty where it does not."""
    lines = [line for line in diff.splitlines() if line[:1] in "+-" and not line.startswith(("+++", "---"))]
    old, new = ("\n".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
    for entry in known:
        pattern = entry["new"].replace("[", "[[]")  # of the wildcards only * is one here
        if entry["module"] == module and entry["old"] == old and fnmatch.fnmatchcase(new, pattern):
            return entry["reason"]
    return ""


def report(found: Iterable[Mutant], *, whole: bool) -> int:
    """Print survivors and the table; 1 where a room, or the sample, is below the bar."""
    found, console, below = list(found), Console(width=160), False
    for mutant in found:
        if not mutant.killed and not mutant.reason:
            console.print(mutant.diff, markup=False, highlight=False)
    table = Table("room", "mutants", "equivalent", "killed", "survived", "share killed")
    groups = {mutant.room: [m for m in found if m.room == mutant.room] for mutant in found} | {"all": found}
    for room, members in groups.items():
        equivalent = sum(bool(mutant.reason) for mutant in members)
        killed = sum(bool(mutant.killed) for mutant in members)
        share = killed / max(1, len(members) - equivalent)
        survived = len(members) - equivalent - killed
        table.add_row(room, *map(str, (len(members), equivalent, killed, survived)), f"{share:.1%}")
        below |= share < BAR and (whole or room == "all")
    console.print(table)
    return int(below)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--room", choices=list(ROOMS), help="one room alone")
    parser.add_argument("--sample", type=int, help="so many mutants of all")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of the sample")
    parser.add_argument("--only", help="mutants whose names end like this, wildcards allowed")
    parser.add_argument("--work", type=Path, default=WORK, help="scratch folder, made anew")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="mutants at once")
    return parser


if __name__ == "__main__":
    sys.exit(main())
