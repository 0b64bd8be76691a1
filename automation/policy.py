"""What a scenario may say when it comes from somebody else: all that the validator asks, and what a machine must ask.

A person may run any scenario on a machine of their own. One that arrives by an issue or a pull request runs on ours: it
must stay inside the repository, fetch only what is pinned by its hash, and say what it seems to say.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionStartEvent, ScalarEvent

from automation.text import faults as misleading
from clip_factory.errors import ScenarioError
from clip_factory.scenario import Scenario, parse

DATASETS = "datasets"
FILE = "scenario.yaml"
MAX_BYTES = 200_000
"""Of a scenario file."""
SCHEME = "https://"
"""From where images may be fetched, their sha256 given; jobs have no keys for anything else."""
ANSWERS = "scenario.answers.jsonl"
"""Where people's answers lie if a scenario says nothing of them: beside its file, and named like it."""
MAX_URL = 2_000
LOCAL = ("local-dir:", "onnx:")
"""Teachers that are folders of the machine that runs."""


def read(data: bytes, path: str) -> tuple[Scenario | None, list[str]]:
    """Read the bytes of `datasets/NAME/scenario.yaml`.

    Args:
        data: Content of the file.
        path: Its path in the repository, POSIX.

    Returns:
        The scenario, None if it is none; and every fault, one line each.
    """
    if len(data) > MAX_BYTES:
        return None, [f"{path}: {len(data):,} bytes, more than the {MAX_BYTES:,} that a scenario may have"]
    try:
        text = data.decode("utf-8")
        refuse_tricks(text, path)
        scenario = parse(text, path)
    except UnicodeDecodeError:
        return None, [f"{path}: not UTF-8 text"]
    except ScenarioError as error:
        return None, error.what.splitlines()
    return scenario, [f"{path}: {fault}" for fault in faults(scenario, posixpath.dirname(path))]


def faults(scenario: Scenario, folder: str) -> list[str]:
    """Why a valid scenario in `folder` of the repository, such as datasets/forklift, may not run here."""
    problems = []
    if folder != f"{DATASETS}/{scenario.name}":
        problems.append(f"name: the scenario {scenario.name} belongs in {DATASETS}/{scenario.name}/, not in {folder}/")
    problems += _images(scenario, folder)
    for key, value in (("gold", scenario.gold), ("answers", scenario.answers)):
        if value is not None and inside(folder, value) is None:
            problems.append(f"{key}: {value!r} leaves the repository")
    if scenario.teacher.model.startswith(LOCAL):
        problems.append("teacher.model: a folder of this machine; name a model of open_clip or of the hub")
    for key, source in (
        ("", scenario.labels),
        *((f"sources.{i}.", p) for i, p in enumerate(scenario.labels.sources or ())),
    ):
        if (source.model or "").startswith(LOCAL):
            problems.append(f"labels.{key}model: a folder of this machine; name a model of the hub")
    for key, texts in (
        ("question", (scenario.question,)),
        ("positive", scenario.positive),
        ("negative", scenario.negative),
    ):
        problems += [f"{key}: {text[:60]!r}: {fault}" for text in texts or () for fault in misleading(text)]
    return problems


def linked(scenario: Scenario, folder: str, links: Sequence[str]) -> list[str]:
    """Why a scenario may not run here though its paths stay inside: a link on the way, or among the photos.

    A link leads wherever its maker says, such as to photos of whoever owns the machine.

    Args:
        scenario: The scenario.
        folder: Its folder in the repository.
        links: Paths of all links and of repositories within the repository.
    """
    problems = []
    for key, path in _named(scenario).items():
        whole = inside(folder, path)
        if whole is None:
            continue
        ours = [
            link for link in links if whole == "." or f"{link}/".startswith(f"{whole}/") or whole.startswith(f"{link}/")
        ]
        problems += [f"{folder}/{FILE}: {key}: {link!a} is a link, or a repository of its own" for link in ours[:3]]
    return problems


def places(scenario: Scenario, folder: str) -> list[str]:
    """Where in the repository the photos and people's labels of a scenario in `folder` lie, or would lie."""
    whole = [inside(folder, path) for path in _named(scenario).values()]
    return [path for path in whole if path is not None]


def _named(scenario: Scenario) -> dict[str, str]:
    """The key of each path of a scenario, and the path."""
    paths = {"images.path": scenario.images.path, "gold": scenario.gold, "answers": scenario.answers or ANSWERS}
    return {key: path for key, path in paths.items() if path is not None}


def inside(folder: str, path: str) -> str | None:
    """A path that starts at `folder`, as one that starts at the repository's root; None if it leaves the repository."""
    windows = "\\" in path or ":" in path
    if windows or "\0" in path or path.startswith("~") or PurePosixPath(path).is_absolute():
        return None
    whole = posixpath.normpath(posixpath.join(folder, path))
    return None if whole.split("/")[0] in ("..", ".git") else whole


def _images(scenario: Scenario, folder: str) -> list[str]:
    images = scenario.images
    if images.path is None and images.url is None:
        return ["images: says of no photos: give a path in the repository, or a url with its sha256"]
    if images.path is not None:
        whole = inside(folder, images.path)
        if whole is None:
            return [f"images.path: {images.path!r} leaves the repository"]
        return [f"images.path: {images.path!r} is the whole repository: name a folder in it"] if whole == "." else []
    url = images.url or ""
    try:
        parts = urlsplit(url)
        host, user = parts.hostname, parts.username
    except ValueError:
        return [f"images.url: {url[:80]!r} is no address"]
    if not url.startswith(SCHEME) or not host:
        return [f"images.url: {url[:80]!r} must begin with {SCHEME}"]
    if user is not None or len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        return [f"images.url: {url[:80]!r} holds a user, or signs that an address may not have, or is too long"]
    return []


def refuse_tricks(text: str, path: str) -> None:
    """Refuse YAML that says more than it shows: anchors, of which ten lines can make a billion, tags, documents.

    Raises:
        ScenarioError: It holds one of them, or is no YAML.
    """
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            tagged = isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag is not None
            anchored = isinstance(event, AliasEvent) or getattr(event, "anchor", None) is not None
            if tagged or anchored:
                line = event.start_mark.line + 1
                raise ScenarioError(f"{path}:{line}: {'a tag' if tagged else 'an anchor'}: write the value out")
    except (YAMLError, RecursionError, ValueError) as error:
        raise ScenarioError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None
