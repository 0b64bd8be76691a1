"""Train a student from a run folder: the only place that builds a Lightning Trainer."""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clip_factory.errors import TrainError
from clip_factory.images.scenario_region import scenario_region
from clip_factory.memory import keep_memory, keep_to_quota
from clip_factory.progress import console
from clip_factory.run_folder import LABELS, STUDENT, TRAINING, RunFolder, sha256_file
from clip_factory.runtime.atomic import atomic, write_bytes
from clip_factory.scenario import Scenario
from clip_factory.students import backbones
from clip_factory.students.cross_fitting import member_logits, write_held_out
from clip_factory.students.lightning_module import Distillation, EpochRow, History
from clip_factory.students.network import Student, soup
from clip_factory.students.recipe import Recipe
from clip_factory.students.training_data import PhotoDataModule, Store, derive_seed, load_photos

COLUMNS = ("epoch", "train_loss", "val_loss", "val_agreement", "lr", "seconds")


def train(scenario: Scenario, run: RunFolder, store: Store, recipe: Recipe | None = None) -> None:
    """Train the scenario's student on the run's labels; write student.ckpt, training.csv and held_out.parquet.

    Killed at any time and called again, it goes on after the last whole epoch and ends with the same weights.

    Args:
        scenario: `images.path` is the absolute folder that labels.parquet's paths start from.
        run: Holds labels.parquet.
        store: Gives the teacher's vectors for the auxiliary loss.
        recipe: The numbers of the recipe; None: the measured defaults.

    Raises:
        TrainError: Nothing to learn from, an unknown backbone, or a loss that is no number.
    """
    recipe = recipe or Recipe()
    if not scenario.student.mirror:
        recipe = replace(recipe, augmentation=replace(recipe.augmentation, flip=0.0))
    keep_memory()
    keep_to_quota()
    rank_zero_only.rank = 0  # type: ignore[attr-defined]  # else a job's variables keep Lightning from writing checkpoints
    wanted = scenario.student
    backbone = backbones.choose(wanted.backbone, wanted.budget_kb, wanted.precision)
    size = recipe.image_size if wanted.image_size == "auto" else wanted.image_size
    root = Path(scenario.images.path or "")
    region = scenario_region(scenario)
    photos = load_photos(root, run, store, recipe, size, wanted.seed, region)
    epochs = recipe.epochs(len(photos.train)) if wanted.epochs == "auto" else wanted.epochs
    scratch = run.path / "tmp" / f"train-{_fingerprint(run, scenario, recipe)}"

    def member(number: int, on_epoch: Callable[[EpochRow], None]) -> tuple[Student, History]:
        seed = derive_seed(wanted.seed, number)
        photos.excluded_fold = number if number < recipe.folds else None
        torch.manual_seed(seed)
        net = backbones.pretrained(backbone, wanted.weights)
        module = _module(Student(backbone.name, size, net, mirror=wanted.mirror), photos, recipe, epochs, seed)
        history = History(on_epoch)
        _fit(module, photos, history, epochs, scratch / f"{number}.ckpt")
        return module.result(), history

    with _quiet(), _progress(epochs * recipe.members) as on_epoch:
        members = [member(number, on_epoch) for number in range(recipe.members)]
    networks = [network for network, _ in members]
    held_out = member_logits(networks, photos, root, run, size, region)
    student = soup(networks)
    if not all(torch.isfinite(p).all() for p in student.parameters()):
        raise TrainError(
            "training diverged: the weights are no numbers any more", hint="report this with the run folder"
        )
    write_held_out(student, photos, held_out, run)
    _write_training(run, [history.rows for _, history in members])
    save(student, run)
    run.log("trained", backbone=backbone.name, image_size=size, epochs=epochs, members=len(members))
    shutil.rmtree(run.path / "tmp", ignore_errors=True)


def save(student: Student, run: RunFolder) -> None:
    """Write student.ckpt: whole, or not at all."""
    stream = io.BytesIO()  # into a file, torch would write the file's name, which is another one each time
    torch.save({"config": student.config, "state_dict": student.state_dict()}, stream)
    write_bytes(run.file(STUDENT), stream.getvalue())


def load(run: RunFolder) -> Student:
    """The trained network in eval mode: uint8 `(N, S, S, 3)` -> logits `(N,)`.

    Raises:
        RunError: The run has no student yet.
        TrainError: The file is not a student of this version.
    """
    path = run.need(STUDENT, "train")
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
        student = Student(**saved["config"])
        student.load_state_dict(saved["state_dict"])
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise TrainError(
            f"{path}: damaged, or not a student ({error})", hint=f"train again: factory train {run.path} --fresh"
        ) from None
    return student.to(memory_format=torch.channels_last).eval()


def _module(student: Student, photos: PhotoDataModule, recipe: Recipe, epochs: int, seed: int) -> Distillation:
    batches = len(photos.train_dataloader())
    student = student.to(memory_format=torch.channels_last)
    return Distillation(student, recipe, photos.train.vectors.shape[1], epochs, batches, seed)


def _fingerprint(run: RunFolder, scenario: Scenario, recipe: Recipe) -> str:
    """Names the resume checkpoint: other labels, settings or recipe must not continue it."""
    inputs = [sha256_file(run.file(LABELS)), scenario.student.model_dump_json(), repr(asdict(recipe))]
    return hashlib.sha256("\n".join(inputs).encode()).hexdigest()[:16]


def _fit(module: Distillation, photos: PhotoDataModule, history: History, epochs: int, checkpoint: Path) -> None:
    """Train one member, from its checkpoint if there is one; of a whole member the checkpoint is all that is needed."""
    photos.seed, photos.epoch = module.seed, lambda: len(history.rows)
    saving = ModelCheckpoint(
        checkpoint.parent,
        checkpoint.stem,
        save_top_k=1,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        devices=1,
        logger=False,
        callbacks=[history, saving],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        gradient_clip_val=5.0,
        # one process trains, whatever a cluster's job says of ranks and nodes (SLURM, MPI, torchrun)
        plugins=[LightningEnvironment()],
    )
    resume = str(checkpoint) if checkpoint.is_file() else None
    try:
        trainer.fit(module, photos, ckpt_path=resume, weights_only=True)
    except SystemExit:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from None


def _write_training(run: RunFolder, histories: Sequence[Sequence[EpochRow]]) -> None:
    """training.csv: the members' means of each epoch, and the sum of their seconds."""
    with atomic(run.file(TRAINING)) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for rows in zip(*histories, strict=True):
            mean = {name: sum(row[name] for row in rows) / len(rows) for name in COLUMNS}
            mean["seconds"] *= len(rows)
            writer.writerow({name: f"{value:.6g}" for name, value in mean.items()})


@contextmanager
def _progress(total: int) -> Iterator[Callable[[EpochRow], None]]:
    """A bar with epoch, validation loss, agreement and time left; yields what moves it."""
    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(),
        TextColumn("epoch"),
        MofNCompleteColumn(),
        TextColumn("{task.fields[metrics]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, transient=not console.is_terminal) as progress:
        task = progress.add_task("training", total=total, metrics="")

        def advance(row: EpochRow) -> None:
            metrics = f"val loss {row['val_loss']:.3f}  agreement {row['val_agreement']:.3f}"
            progress.update(task, advance=1, metrics=metrics)

        yield advance


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's own messages (devices, tips, loader workers) off stderr."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning")
    before = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
