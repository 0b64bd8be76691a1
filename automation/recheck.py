"""Published models against the photos of today: labeled anew, evaluated by the same rule, reported in an issue.

Reported is one that would be refused, and one that has passed and is not proven any more; not one that never was.

Of the release come the question, the phrases, the teacher, the rule and the seed; of the repository the photos and
people's labels. Of these, only such count as the model was neither trained on nor its threshold placed by, nor anything
that looks like one of them: the release names them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from automation import policy
from automation.command import outputs, program, say
from automation.github import GitHub
from automation.markdown import block, code, prose, table
from clip_factory.errors import FactoryError
from clip_factory.gate.evidence import Evidence
from clip_factory.gate.rule import Clause, decide, evaluate_clauses
from clip_factory.gate.verdict import Verdict
from clip_factory.labels import Labels
from clip_factory.registry import Reference, Registry, open_existing
from clip_factory.registry.release_reader import clauses as gate_clauses
from clip_factory.registry.release_reader import read_checked, read_gate, read_model
from clip_factory.report import formatting as words
from clip_factory.run_folder import IMAGES, SCENARIO, SPLITS, RunFolder
from clip_factory.runtime import Model
from clip_factory.runtime.releases.release_record import Release
from clip_factory.scenario import load, parse
from clip_factory.seen_photos import SeenPhotos
from clip_factory.terminal import NOT_PROVEN, REFUSED

UNSEEN = "parity"
"""The clause that needs the trained network, which is not published."""
PASSES = {"passed": "passes", "not proven": "is **not proven** by", "refused": "does **not** pass"}
TITLES = {
    "not proven": "the published model has passed, and is not proven now",
    "refused": "the published model would not pass the gate now",
}


@dataclass(frozen=True)
class Check:
    """The result for one published model."""

    release: Release
    clauses: tuple[Clause, ...]
    then: tuple[dict[str, Any], ...]
    """The clauses as they were when it was published."""

    verdict: Verdict
    """The gate's verdict now."""
    seen: int = 0
    """Test photos that do not count, since the model has seen them or their like."""

    @property
    def worse(self) -> bool:
        """Whether somebody must know: it would be refused, or has passed and is not proven now."""
        return self.verdict.state == "refused" or (self.verdict.state, self.release.state) == ("not proven", "passed")


def check(registry: Registry, release: Release, file: Path, out: Path, store: Path) -> Check:
    """Label the photos that a scenario file names now, and hold the published model against the rule.

    Args:
        registry: Where the release is.
        release: What is checked.
        file: datasets/NAME/scenario.yaml; its photos and people's labels count, the rest is as published.
        out: Folder for the run that is made.
        store: Where vectors are kept.

    Raises:
        FactoryError: The photos cannot be had or labeled, or the release was altered.
    """
    from clip_factory import pipeline
    from clip_factory import run_request as start

    text = read_checked(registry, release, SCENARIO).decode("utf-8")
    published, now = parse(text, f"{release}: {SCENARIO}"), load(file)
    request = published.model_copy(update={"images": now.images, "gold": now.gold, "answers": now.answers})
    model = read_model(registry, release)
    with start.start_run(request, out, store, resume=True) as run:
        pipeline.run(run, store, "label", go_on=True)
        labels, seen = without_seen(run, registry, release)
        evidence = measure(run, model, labels)
    clauses = [clause for clause in evaluate_clauses(published, evidence, release.size) if clause.name != UNSEEN]
    then = tuple(gate_clauses(read_gate(registry, release)))
    return Check(release, tuple(clauses), then, decide(published, evidence, clauses), seen)


def without_seen(run: RunFolder, registry: Registry, release: Release) -> tuple[Labels, int]:
    """The labels of a run, in whose test split none is left that the release's model has seen; and how many it has.

    A release of an earlier version does not say what it has seen: then the split by the published seed stands, which
    leads the same photos the same way as long as none of their near-duplicates have come.
    """
    labels = Labels.of_run(run)
    if SPLITS not in release.files:
        return labels, 0
    seen_photos = SeenPhotos.parse(read_checked(registry, release, SPLITS), f"{release}: {SPLITS}")
    seen = (labels.split == "test") & seen_photos.includes(labels, run.table(IMAGES, "scan"))
    return replace(labels, split=np.where(seen, "train", labels.split)), int(seen.sum())


def measure(run: RunFolder, model: Model, labels: Labels) -> Evidence:
    """What the gate holds the rule against, for a model on the test photos of a labeled run."""
    from clip_factory.gate.evidence import collect
    from clip_factory.images.photo import read_squares

    scenario = load(run.file(SCENARIO))
    photos = labels.of_split("test").photos(Path(scenario.images.path or "."), model.region)
    return collect(labels, model.threshold, model.probabilities(read_squares(photos, model.image_size)))


def aliased_releases(registry: Registry, alias: str, root: Path, names: list[str]) -> Iterator[tuple[Release, Path]]:
    """The releases that an alias stands for and whose scenario is in the repository, with the file of that."""
    for name, entry in registry.index().models.items():
        file = root / policy.DATASETS / name / policy.FILE
        if alias not in entry.aliases or (names and name not in names):
            continue
        if not file.is_file():
            say(f"{name}: no {policy.DATASETS}/{name}/{policy.FILE} here; passed over")
            continue
        yield registry.index().find(Reference(name, alias=alias)), file


def describe(one: Check, alias: str, registry: str) -> str:
    """The body of the issue, or of the comment that closes it."""
    then = {clause["name"]: clause for clause in one.then}
    rows = [
        (
            words.CLAUSES[clause.name],
            words.rule(asdict(clause)),
            words.figure(then[clause.name]) if clause.name in then else words.ABSENT,
            words.figure(asdict(clause)),
            words.interval(clause.interval) if clause.name in words.SHARES else words.ABSENT,
            words.number(clause.n) if clause.name != "bytes" else words.ABSENT,
            clause.verdict,
        )
        for clause in one.clauses
    ]
    name, verdict = one.release.name, PASSES[one.verdict.state]
    headings = ("clause", "asked", "when published", "now", "95 % interval", "photos", "verdict")
    commands = [
        f"factory run {policy.DATASETS}/{name}/{policy.FILE}",
        f"factory models rollback {name} {alias} --registry {registry}",
    ]
    return "\n\n".join(
        [
            f"{code(str(one.release))}, now {code('@' + alias)}, {verdict} the gate on the photos of today.",
            f"> {prose(one.verdict.headline)}" + "".join(f"\n> - {prose(reason)}" for reason in one.verdict.reasons),
            table(headings, rows, "llrrrrl"),
            *([f"{one.seen:,} test photos do not count: the model has seen them or their like."] if one.seen else ()),
            "Train it anew on them, with more labels from people where it is not proven, or go back to the version"
            " before:",
            block("\n".join(commands), "sh"),
        ]
    )


def update_issue(github: GitHub, one: Check, alias: str, registry: str) -> None:
    """Open an issue on a model that is worse than when it was published, bring it up to date, or close it."""
    name, mark = one.release.name, f"recheck {one.release.name}"
    if one.worse:
        github.open_issue(mark, f"{name}: {TITLES[one.verdict.state]}", describe(one, alias, registry))
    else:
        github.close_issue(mark, describe(one, alias, registry))


def main(
    registry: Annotated[str, typer.Option(help="Folder or URL.", metavar="REGISTRY", envvar="FACTORY_REGISTRY")],
    out: Annotated[Path, typer.Option(help="Folder for the runs and NAME.md.", metavar="DIR")],
    root: Annotated[Path, typer.Option(help="The repository with datasets/.", metavar="DIR")] = Path(),
    alias: Annotated[str, typer.Option(help="The alias whose releases are checked.")] = "champion",
    name: Annotated[list[str] | None, typer.Option(help="Only this model; may be repeated.")] = None,
    send: Annotated[bool, typer.Option("--post", help="Open, update or close an issue for each.")] = False,
) -> None:
    """Evaluate the published models on the photos of today, and open an issue for each that is worse than it was.

    Prints failing and unproven (JSON lists of names) and checked for $GITHUB_OUTPUT. Exit codes: 1 one would be
    refused; 4 one has passed and is not proven now; 2 one could not be checked, the others were.

    Example:  python -m automation.recheck --registry registry/ --out recheck
    """
    from clip_factory import run_request as start

    opened, github = open_existing(registry), GitHub.open() if send else None
    done: list[Check] = []
    wrong: list[str] = []
    for release, file in aliased_releases(opened, alias, root, [one for one in name or [] if one]):
        try:
            one = check(opened, release, file, out / "runs", start.default_store())
        except FactoryError as error:
            wrong.append(f"{release}: {error}")
            continue
        done.append(one)
        say(f"{release}: {one.verdict.state}. {one.verdict.headline}")
        (out / f"{release.name}.md").write_text(describe(one, alias, opened.url) + "\n", encoding="utf-8")
        if github is not None:
            update_issue(github, one, alias, opened.url)
    failing, unproven = (
        [one.release.name for one in done if one.verdict.state == state] for state in ("refused", "not proven")
    )
    outputs(failing=failing, unproven=unproven, checked=str(len(done)))
    if wrong:
        raise FactoryError("\n".join(wrong))
    if any(one.worse for one in done):
        raise typer.Exit(REFUSED if failing else NOT_PROVEN)


if __name__ == "__main__":
    program("recheck", main)
