"""Scenario files: YAML in, a `Scenario` or errors by line out."""

from __future__ import annotations

import io
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from clip_factory.errors import ScenarioError
from clip_factory.scenario.explain import explain
from clip_factory.scenario.schema import NamedRegion, RegionMask, Scenario


def load(path: Path) -> Scenario:
    """Read a scenario file; paths in it become absolute, starting at the file's own folder.

    Raises:
        ScenarioError: The file is missing, is not YAML, or says something that is not allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ScenarioError(f"{path}: no such scenario file", hint="make one with: factory new NAME") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    return _anchored(parse(text, str(path)), path.resolve())


def parse(text: str, source: str = "scenario") -> Scenario:
    """Turn the text of a scenario file into a `Scenario`; `source` names it in errors.

    Raises:
        ScenarioError: The text is not YAML, or says something that is not allowed.
    """
    return validated(_yaml_tree(text, source), source)


def validated(tree: Any, source: str = "scenario") -> Scenario:
    """A tree of plain values as a `Scenario`; `source` names it in errors.

    Raises:
        ScenarioError: It says something that is not allowed.
    """
    try:
        return Scenario.model_validate(tree)
    except ValidationError as error:
        raise ScenarioError(explain(error, tree, source), hint="factory new NAME writes a commented example") from None


def dump(scenario: Scenario, *, exclude: Collection[str] = ()) -> str:
    """The scenario as YAML, every default written out; `exclude` names keys to leave out."""
    stream = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 100
    yaml.dump(json.loads(scenario.model_dump_json(exclude=set(exclude))), stream)
    return stream.getvalue()


def _yaml_tree(text: str, source: str) -> Any:
    try:
        tree = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ScenarioError(f"{source}:{line}: not valid YAML: {error.problem}") from None
    except (YAMLError, RecursionError, ValueError) as error:
        raise ScenarioError(f"{source}: not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ScenarioError(f"{source}: expected keys and values, such as `name: forklift`")
    return tree


def _anchored(scenario: Scenario, file: Path) -> Scenario:
    folder, images = file.parent, scenario.images
    if images.path is not None:
        images = images.model_copy(update={"path": str(folder / Path(images.path).expanduser())})
    gold = scenario.gold and str(folder / Path(scenario.gold).expanduser())
    answers = str(folder / Path(scenario.answers or f"{file.stem}.answers.jsonl").expanduser())
    region = anchored_region(scenario.region, folder)
    return scenario.model_copy(update={"images": images, "region": region, "gold": gold, "answers": answers})


def anchored_region(region: NamedRegion | None, folder: Path) -> NamedRegion | None:
    """The region with the path of its mask, where it has one, starting at a folder."""
    return RegionMask(mask=str(folder / Path(region.mask).expanduser())) if isinstance(region, RegionMask) else region


def stamped(scenario: Scenario) -> str:
    """The scenario as a model holds it, JSON: without the paths of the machine that made it, since a model travels.

    Of a mask the file's name is left; what it shows is in the model's preprocessing.
    """
    if isinstance(scenario.region, RegionMask):
        scenario = scenario.model_copy(update={"region": RegionMask(mask=Path(scenario.region.mask).name)})
    return scenario.model_dump_json(exclude={"images", "gold", "answers"})


def means_the_same(stamp: str, scenario: Scenario) -> bool:
    """Whether a model holds this scenario, in these words or in those of an earlier version."""
    try:
        return stamped(Scenario.model_validate_json(stamp)) == stamped(scenario)
    except ValueError:
        return False
