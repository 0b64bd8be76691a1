"""The part of the API around runs: a file to start from, people's answers, what thresholds would do, the machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip_factory.call_arguments import FilePath, optional_path, store_path
from clip_factory.run_result import Run, load_run

if TYPE_CHECKING:
    from clip_factory.doctor import Finding
    from clip_factory.encoders.store_check import StoreCheck
    from clip_factory.exporters.threshold import Threshold
    from clip_factory.review.launch import Page
    from clip_factory.serve.encoder_server import EncoderServer


def new(name: str, folder: FilePath = ".") -> Path:
    """Write a commented scenario file NAME.yaml to start from, and return its path."""
    from clip_factory.scenario import write_example

    return write_example(name, Path(folder))


def review(
    run: FilePath | Run,
    *,
    reviewer: str | None = None,
    port: int | None = None,
    prove: bool = False,
    store: FilePath | None = None,
) -> Page:
    """The page on which a person corrects doubtful labels, bound to its port; `.serve()` serves it until Ctrl-C.

    Args:
        run: As for `load_run`.
        reviewer: Who answers; by default the name of the user.
        port: On 127.0.0.1; by default the last one used for this run, else any that is free.
        prove: Begin with random test photos, which alone show whether the model is right.
        store: As for `run`.
    """
    from clip_factory.review import launch

    return launch.prepare(load_run(run).path, store_path(store), reviewer, port, prove=prove)


def serve_encoder(
    teacher: str = "auto",
    *,
    host: str = "127.0.0.1",
    port: int = 8600,
    token: FilePath | None = None,
    max_batch: int = 64,
    max_wait: float = 0.005,
    max_waiting: int = 1024,
    max_pixels: int = 178_000_000,
    max_held: int = 1_100_000_000,
    timeout: int = 120,
) -> EncoderServer:
    """An encoder for other machines and processes, bound to its port and loaded; `.serve(print)` serves it.

    Args:
        teacher: As `teacher` in `run`.
        host: Address or name to listen at; one that other machines can reach needs a token.
        port: 0 for any that is free.
        token: File with the token that clients must bring; by default $FACTORY_ENCODER_TOKEN.
        max_batch: Photos that the encoder is handed at once.
        max_wait: Seconds that a batch which is not full waits for more.
        max_waiting: Photos that may wait; clients with more are told to come again.
        max_pixels: Of one photo.
        max_held: Bytes of the bodies of all requests at once.
        timeout: Seconds that a request waits for its vectors.

    Raises:
        RunError: The port is taken, or the token is missing or none.
        TeacherError: The encoder cannot be loaded.
    """
    from clip_factory.encoders.wire_format import Limits
    from clip_factory.scenario import Teacher
    from clip_factory.serve.embedding_app import Settings
    from clip_factory.serve.encoder_server import load_named, prepare, read_token

    settings = Settings(Limits.of_pixels(max_pixels, timeout), max_batch, max_wait, max_waiting, max_held)
    load = partial(load_named, Teacher.parse(teacher))
    return prepare(load, host, port, read_token(optional_path(token)), settings)


def exchange_answers(
    run: FilePath | Run,
    *,
    source: FilePath | None = None,
    target: FilePath | None = None,
    reviewer: str | None = None,
    store: FilePath | None = None,
) -> str:
    """Add people's answers from a file or folder of another tool, then write all of them to one; what was done.

    Args:
        run: As for `load_run`.
        source: FILE.csv, Label Studio's FILE.json, or a folder with `yes/` and `bad/`.
        target: FILE.csv, FILE.json, NAME.fiftyone, or a new folder.
        reviewer: Who answered where the source does not say; by default the name of the user.
        store: As for `run`.
    """
    from clip_factory.review import import_export

    folder = load_run(run).path
    return import_export.exchange_answers(
        folder, store_path(store), reviewer, optional_path(source), optional_path(target)
    )


def thresholds(run: FilePath | Run, targets: Sequence[Any]) -> list[Threshold]:
    """Where each target would put the threshold of a run's model, and what is expected there; nothing is changed.

    Args:
        run: As for `load_run`.
        targets: As `target` in a scenario file; the run's own stands first in the answer.

    Raises:
        RunError: The run has no model yet.

    Example:
        >>> thresholds("latest", ["balanced", {"recall": 0.9}])
    """
    from clip_factory.new_target import expected_thresholds

    return expected_thresholds(load_run(run).folder, targets)


def check_store(folders: Sequence[FilePath] = (), *, repair: bool = False, store: FilePath | None = None) -> StoreCheck:
    """Hash and embed the photos that the store knows anew, and compare with what it holds.

    Args:
        folders: Of photos to check beside those that earlier scans have seen.
        repair: Take out what is wrong; it is computed anew when it is needed.
        store: As for `run`.

    Raises:
        StoreError: A shard is damaged; the message names it.
    """
    from clip_factory.encoders import store_check
    from clip_factory.progress import bar

    with bar("checking vectors") as progress:
        return store_check.check_store(store_path(store), [Path(one) for one in folders], progress, repair=repair)


def doctor() -> Iterator[Finding]:
    """What is installed, which devices there are, and which weights are at hand."""
    from clip_factory.doctor import examine

    return examine()
