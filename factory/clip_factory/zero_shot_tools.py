"""Without training: photos against words, search, wordings and encoders compared; what `api` has of `zeroshot`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip_factory.call_arguments import FilePath, as_path, store_path
from clip_factory.errors import ImagesError, ScenarioError

if TYPE_CHECKING:
    import numpy as np

    from clip_factory.encoders.encoder_catalog import CatalogEntry
    from clip_factory.encoders.onnx_export import ExportedEncoder
    from clip_factory.label_sources.source import Phrases
    from clip_factory.runtime.region import Region
    from clip_factory.scenario import Scenario
    from clip_factory.zeroshot.classes import ClassPrompts
    from clip_factory.zeroshot.embedded_folder import EmbeddedFolder
    from clip_factory.zeroshot.encoder_comparison import Trial
    from clip_factory.zeroshot.folder_result import FolderResult
    from clip_factory.zeroshot.lint import Remark
    from clip_factory.zeroshot.look_alikes import Suggestion
    from clip_factory.zeroshot.search import Match
    from clip_factory.zeroshot.wordings import Wording, WordingResult

Classes = Sequence[str] | Mapping[str, Sequence[str]]
"""Names, or phrases by name."""
AUTO = "auto"


def zero_shot(
    images: FilePath | Sequence[Any],
    classes: Classes | None = None,
    *,
    templates: str | Sequence[str] | None = None,
    whole_prompts: bool = False,
    encoder: str = AUTO,
    folders: bool = False,
    other: bool = False,
    refine: bool = False,
    threshold: float = 0.0,
    probe: bool = False,
    store: FilePath | None = None,
) -> FolderResult:
    """How likely photos show each of several classes, without any training.

    Args:
        images: A folder or archive, whose vectors are kept in the store; or a list of PIL images, arrays of uint8
            `(H, W, 3)`, or paths, which are embedded anew.
        classes: Names, or phrases by name; by default the names of the folders that the photos lie in.
        templates: A named set, one template or several, each with one `{}`; by default `photo`, or `plain` where all
            phrases begin with an article.
        whole_prompts: Whether the phrases are prompts as they stand.
        encoder: As `teacher` in `run`.
        folders: Measure the answers by the folders that the photos lie in.
        other: Add the class `other`: everyday things that no class names.
        refine: Let the folder's own groups correct the words; assumes that most of the classes are there.
        threshold: Least probability of an answer, in [0, 1]; below it the answer is `unsure`.
        probe: With `folders`, also how right 1 to 16 labels of each class would be.
        store: As for `run`.

    Returns:
        `names`, the answers; `probabilities` `(N, C)`; `frame`, both as a data frame; `truth` with `folders`.

    Raises:
        ScenarioError: There are no classes, or a template has no place for them.
        FactoryError: The photos or the encoder cannot be read.

    Example:
        >>> zero_shot("photos/", ["a cat", "a dog"]).frame
    """
    from clip_factory.zeroshot.classes import usual_templates
    from clip_factory.zeroshot.classification import classify
    from clip_factory.zeroshot.folder_result import FolderResult, template_rows, truth_of_folders

    if not 0 <= threshold <= 1:
        raise ScenarioError(f"a threshold of {threshold:g} is no probability", hint="give one from 0 to 1")
    embedded = _embedded(images, encoder, store)
    names = _folder_names(embedded) if folders or classes is None else None
    phrases = _phrases(classes, names)
    chosen = ("{}",) if whole_prompts else _templates(templates or usual_templates(phrases))
    prompts = _prompts(phrases, chosen)
    result = classify(
        embedded.vectors, prompts, embedded.encoder, chosen, other=other, refine=refine, threshold=threshold
    )
    truth = None
    if folders and names is not None:
        rows = template_rows(embedded.vectors, names, phrases, chosen, embedded.encoder)
        words = classify(embedded.vectors, prompts, embedded.encoder, chosen, other=other, threshold=threshold)
        truth = truth_of_folders(result, words, embedded.vectors, names, embedded.groups, rows, probe=probe)
    return FolderResult(
        paths=embedded.paths,
        classification=result,
        classes=prompts,
        templates=chosen,
        encoder=embedded.encoder,
        truth=truth,
        root=embedded.root,
        sha256=embedded.sha256,
        unused=embedded.unused,
    )


def search(
    images: FilePath,
    words: str | Sequence[str] = (),
    *,
    like: FilePath | Sequence[FilePath] = (),
    minus: str | Sequence[str] = (),
    most: int = 20,
    encoder: str = AUTO,
    store: FilePath | None = None,
) -> tuple[list[Match], EmbeddedFolder]:
    """The photos of a folder that lie nearest to words, to other photos, or to both.

    Args:
        images: A folder or archive.
        words: What is looked for.
        like: Photos that the answer is to be like; they need not lie in the folder.
        minus: What the answer is not to be like.
        most: How many photos.
        encoder: As `teacher` in `run`.
        store: As for `run`.

    Returns:
        The photos, the nearest first, and the folder; of files with the same bytes the first alone.

    Example:
        >>> search("photos/", "a red bicycle", minus="street")
    """
    from clip_factory.zeroshot.search import Query
    from clip_factory.zeroshot.search import search as nearest

    query = Query(_several(words), tuple(as_path(path) for path in _paths(like)), _several(minus))
    if not (query.words or query.like):
        raise ScenarioError("nothing is looked for", hint='such as: factory search photos/ "a red bicycle"')
    folder = _folder(as_path(images), encoder, store)
    rows = folder.first_of_content
    paths = [folder.paths[row] for row in rows.tolist()]
    return nearest(folder.vectors[rows], paths, query, folder.encoder, most), folder


def compare_prompts(
    wordings: Sequence[Wording],
    images: FilePath,
    *,
    gold: FilePath | None = None,
    yes_folders: Sequence[str] = (),
    encoder: str = AUTO,
    store: FilePath | None = None,
    region: Region | None = None,
) -> tuple[list[WordingResult], EmbeddedFolder]:
    """Several ways to ask one question, on one folder, from stored vectors; the one to use comes first.

    Args:
        wordings: Phrases and templates of each.
        images: A folder or archive.
        gold: Labels from people, as for `run`: then balanced accuracy decides.
        yes_folders: Top folders whose photos are yes; all others are no.
        encoder: As `teacher` in `run`.
        store: As for `run`.
        region: The part of each photo that is asked about, as a scenario's; None: the whole.
    """
    from clip_factory.zeroshot.wordings import PhraseScorer, compare_wordings

    folder = _folder(as_path(images), encoder, store, region)
    truth = _truth(folder, gold, yes_folders)
    return compare_wordings(PhraseScorer(folder.encoder, folder.vectors), wordings, truth), folder


def suggest_prompts(
    wording: Wording,
    images: FilePath,
    *,
    most: int = 12,
    encoder: str = AUTO,
    store: FilePath | None = None,
    region: Region | None = None,
) -> tuple[list[Suggestion], EmbeddedFolder]:
    """Negative phrases for what a folder holds beside what is looked for, and the photos that each would take.

    Args:
        wording: The words as they are.
        images: A folder or archive.
        most: How many phrases.
        encoder: As `teacher` in `run`.
        store: As for `run`; the vectors of the vocabulary are kept there, too.
        region: The part of each photo that is asked about, as a scenario's; None: the whole.
    """
    from clip_factory.encoders import EmbeddingStore
    from clip_factory.zeroshot.look_alikes import suggest
    from clip_factory.zeroshot.wordings import PhraseScorer

    folder = _folder(as_path(images), encoder, store, region)
    kept = EmbeddingStore(store_path(store))
    return suggest(PhraseScorer(folder.encoder, folder.vectors), wording, kept, most), folder


def lint_prompts(
    phrases: Scenario | Phrases, *, templates: str | Sequence[str] = "photo", encoder: str | None = AUTO
) -> list[Remark]:
    """What is doubtful about phrases, before a photo is looked at: negation, unknown and ambiguous words, plurals.

    Args:
        phrases: A scenario, whose templates count, or phrases.
        templates: Of bare phrases.
        encoder: As `teacher` in `run`; None asks no encoder, and takes no seconds.
    """
    from clip_factory.label_sources.source import Phrases
    from clip_factory.zeroshot.lint import lint
    from clip_factory.zeroshot.wordings import Wording

    loaded = _loaded(encoder) if encoder else None
    if isinstance(phrases, Phrases):
        return lint(phrases.positive, phrases.negative, _templates(templates), loaded)
    return lint(phrases.positive, phrases.negative or (), Wording.of(phrases).chosen_templates, loaded)


def encoders() -> list[CatalogEntry]:
    """What open_clip knows, and the offline encoder: size, published accuracy, license, whether it is cached."""
    from clip_factory.encoders.encoder_catalog import catalog

    return catalog()


def export_encoder(name: str, out: FilePath, *, precision: str = "fp32") -> ExportedEncoder:
    """Write an encoder as a folder that runs without torch: `teacher: onnx:DIR`, `clip_factory.runtime.ZeroShot`.

    Args:
        name: As `teacher` in `run`.
        out: The new folder.
        precision: `fp32`; `fp16`, half the size; `int8`, a quarter.

    Raises:
        TeacherError: The folder is there, the encoder cannot be had or not be exported, or its vectors differ.
    """
    from clip_factory.encoders.onnx_export import export_named
    from clip_factory.scenario import Teacher

    return export_named(Teacher.parse(name), as_path(out), precision)


def compare_encoders(
    names: Sequence[str], images: FilePath, *, templates: str = "photo", store: FilePath | None = None
) -> list[Trial]:
    """Encoders on one's own folder: accuracy by its top folders, photos a second, memory, license.

    Args:
        names: As `teacher` in `run`.
        images: A folder of class folders; without them there is no accuracy.
        templates: Named set of templates for the names of the folders.
        store: As for `run`.
    """
    from clip_factory.zeroshot.encoder_comparison import compare_encoders as tried

    return tried(as_path(images), names, store_path(store), _templates(templates))


def _folder(images: Path, encoder: str, store: FilePath | None, region: Region | None = None) -> EmbeddedFolder:
    from clip_factory.scenario import Teacher
    from clip_factory.zeroshot.embedded_folder import embed_folder

    return embed_folder(images, Teacher.parse(encoder), store_path(store), region=region)


def _loaded(encoder: str) -> Any:
    from clip_factory.scenario import Teacher
    from clip_factory.zeroshot.embedded_folder import load_named

    return load_named(Teacher.parse(encoder))


def _embedded(images: FilePath | Sequence[Any], encoder: str, store: FilePath | None) -> EmbeddedFolder:
    if isinstance(images, Sequence) and not isinstance(images, str):
        from clip_factory.zeroshot.embedded_folder import embed_images

        return embed_images(images, _loaded(encoder))
    return _folder(as_path(images), encoder, store)


def _folder_names(folder: EmbeddedFolder) -> np.ndarray:
    from clip_factory.zeroshot.embedded_folder import class_folders

    names = class_folders(folder)
    if not any(names):
        raise ImagesError(
            f"{folder.root}: no photo lies in a folder of its own", hint="name classes: --classes cat,dog"
        )
    return names


def _phrases(classes: Classes | None, folders: np.ndarray | None) -> Mapping[str, Sequence[str]]:
    from clip_factory.zeroshot.classes import of_folders

    if classes is None:
        return of_folders(folders.tolist() if folders is not None else [])
    if isinstance(classes, Mapping):
        return {name: list(texts) for name, texts in classes.items()}
    if isinstance(classes, str):
        raise TypeError(f"classes must be a list of names, not {classes!r}")
    if len(set(classes)) < len(classes):
        raise ScenarioError("a class is named twice", hint="name each once")
    return {name: [name] for name in classes}


def _prompts(phrases: Mapping[str, Sequence[str]], templates: Sequence[str]) -> ClassPrompts:
    from clip_factory.zeroshot.classes import prompts_of

    return prompts_of(phrases, templates)


def _templates(named: str | Sequence[str]) -> tuple[str, ...]:
    from clip_factory.zeroshot.classes import SLOTS, read_templates, template

    if not isinstance(named, str):
        return tuple(template(one) for one in named)
    return (template(named),) if any(slot in named for slot in SLOTS) else read_templates(named)


def _truth(folder: EmbeddedFolder, gold: FilePath | None, yes_folders: Sequence[str]) -> np.ndarray | None:
    """float64 `(N,)`: 1 yes, 0 no, NaN unknown; None where nothing is known."""
    import numpy as np
    import pyarrow as pa

    if yes_folders:
        names = _folder_names(folder)
        if missing := sorted(set(yes_folders) - set(names.tolist())):
            raise ScenarioError(f"no photo lies in a folder {missing[0]!r}", hint="name a top folder of the photos")
        return np.isin(names, list(yes_folders)).astype(np.float64)
    if gold is None:
        return None
    from clip_factory.gold.gold_csv import read_gold

    labels = read_gold(as_path(gold), pa.table({"path": folder.paths, "sha256": folder.sha256})).labels
    return np.array([labels.get(sha, np.nan) for sha in folder.sha256], np.float64)


def _several(texts: str | Sequence[str]) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)


def _paths(paths: FilePath | Sequence[FilePath]) -> Sequence[FilePath]:
    return paths if isinstance(paths, Sequence) and not isinstance(paths, str) else [paths]
