"""Answers into and out of a run from the command line, without a page."""

from __future__ import annotations

from pathlib import Path

from clip_factory.gold import exchange
from clip_factory.gold.journal import default_reviewer
from clip_factory.review.session import Session
from clip_factory.run_folder import find_run


def exchange_answers(target: Path, store: Path, reviewer: str | None, source: Path | None, copy: Path | None) -> str:
    """Add answers from `source` to a run, then write its answers to `copy`; how many, one line each.

    Args:
        target: The run folder, or what else `find_run` knows.
        store: Folder of the embedding store.
        reviewer: Whose answers are where the source does not say; the name of the user by default.
        source: What `gold.exchange.read` reads, if anything.
        copy: What `gold.exchange.write` writes, if anything.

    Raises:
        FactoryError: It is no run, or the answers do not fit it.
    """
    session = Session.open(find_run(target), reviewer or default_reviewer(), store)
    lines = [f"{import_answers(session, source)} new answers from {source}"] if source else []
    return "\n".join([*lines, f"{export_answers(session, copy)} answers in {copy}"] if copy else lines)


def import_answers(session: Session, source: Path) -> int:
    """Record the answers of a file or folder in the session's journal; how many are new.

    Each is its reviewer's, whom the source names, else the session's. Nothing is recorded of a source with an error,
    and nothing twice.

    Raises:
        ReviewError: The source cannot be read, or names photos that this run does not have.
    """
    table = session.answer_table()
    return exchange.record(session.journal, table, exchange.read(table, source))


def export_answers(session: Session, target: Path, *, link: bool = False) -> int:
    """Write everyone's answers in force, as `gold.exchange.write` does; how many.

    Raises:
        ReviewError: The target is there already or has an unknown ending, or a photo is gone.
    """
    return exchange.write(session.answer_table(), target, link=link)
