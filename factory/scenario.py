"""The scenario file: one yes/no question, typed, with every default in one place.

`load` turns YAML into a `Scenario`, or into a `ScenarioError` that names file, line, key, value and remedy.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from factory.errors import ScenarioError
from factory.prompts import TEMPLATE_SETS, TemplateSet, negation_in

SLUG = r"^[a-z0-9]+([-_][a-z0-9]+)*$"


def _affirmative(phrase: str) -> str:
    word = negation_in(phrase)
    if word:
        raise ValueError(
            f"{phrase!r} says {word!r}, which CLIP does not understand; "
            f'name what is to be seen, and give its opposite as a negative phrase (a name such as "no parking" sign '
            f"goes in double quotes)"
        )
    return phrase


def _one_slot(template: str) -> str:
    if template.count("{}") != 1:
        raise ValueError(f"{template!r} must hold {{}} exactly once: the phrase goes there")
    return template


Phrase = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_affirmative)
]
Template = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200), AfterValidator(_one_slot)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Images(_Section):
    """Where the photos are: `path`, or `url` with its `sha256`."""

    path: str | None = None
    """Folder (searched recursively) or zip/tar archive. Relative paths start at the scenario file."""
    url: str | None = None
    """Archive or image list behind any fsspec URL: https://, s3://, gs://, file:// and so on."""
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$", to_lower=True)] | None = None
    """Hex sha256 of the bytes behind `url`; they are refused when it differs."""

    @model_validator(mode="after")
    def _one_source(self) -> Images:
        if self.path is not None and self.url is not None:
            raise ValueError("give either path or url, not both")
        if self.url is not None and self.sha256 is None:
            raise ValueError("a url needs its sha256, so that a run can be repeated; get it with: sha256sum FILE")
        return self


class Teacher(_Section):
    """The dual encoder that labels the photos."""

    model: Annotated[str, StringConstraints(min_length=1)] = "auto"
    """`auto`, `offline`, an open_clip model name, `hf-hub:OWNER/NAME`, or `local-dir:PATH`."""
    pretrained: str | None = None
    """open_clip's tag of the weights, with a model name; `python -m open_clip` lists them."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 64
    """Images a forward pass."""


class Student(_Section):
    """The small network that is trained and exported."""

    backbone: str = "auto"
    """`auto`, or a name that `factory doctor` lists."""
    image_size: Literal["auto"] | Annotated[int, Field(ge=32, le=512, multiple_of=8)] = "auto"
    """Side of the square that the student sees, in pixels."""
    budget_kb: Annotated[float, Field(gt=0, le=100_000)] = 300
    """Largest size of model.onnx, in kB of 1,000 bytes."""
    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    """Number format of the weights in the file; `auto` takes the most accurate that fits the budget."""
    epochs: Literal["auto"] | Annotated[int, Field(ge=1, le=10_000)] = "auto"
    """Passes over the training images; `auto` fits them to the number of images."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Fixes splits and training on one machine."""


class Gate(_Section):
    """The rule that a student must pass on images it never saw."""

    agreement: Share = 0.95
    """Least share of confidently labelled test images on which student and teacher agree."""
    gold_accuracy: Share = 0.90
    """Least accuracy on the test images that a person has labelled."""
    parity: Share = 0.01
    """Largest mean difference of probability between the trained network and the shipped file."""
    false_yes_cost: Annotated[float, Field(gt=0)] = 1.0
    """What a wrong yes costs, against `false_no_cost`; the threshold is chosen from the two."""
    false_no_cost: Annotated[float, Field(gt=0)] = 1.0
    """What a wrong no costs."""


class Scenario(_Section):
    """One yes/no question about one set of photos."""

    name: Annotated[str, StringConstraints(pattern=SLUG, max_length=64)]
    """Slug: names the run folder and the model in a registry."""
    question: Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)] = ""
    """The question in words, for people; empty: made from the first positive phrase."""
    positive: Annotated[tuple[Phrase, ...], Field(min_length=1, max_length=200)]
    """Phrases for yes."""
    negative: Annotated[tuple[Phrase, ...], Field(min_length=1, max_length=1000)] | None = None
    """Phrases for no, look-alikes above all; left out: a documented set of everyday things stands in."""
    templates: TemplateSet | Annotated[tuple[Template, ...], Field(min_length=1, max_length=200)] = "photo"
    """A named set of templates, or a list of strings that each hold `{}` once."""
    images: Images = Images()
    gold: str | None = None
    """CSV of labels from a person: columns `path` (relative to the images) and `label` (yes or no)."""
    teacher: Teacher = Teacher()
    student: Student = Student()
    gate: Gate = Gate()

    @model_validator(mode="after")
    def _no_phrase_on_both_sides(self) -> Scenario:
        def folded(phrases: tuple[str, ...] | None) -> dict[str, str]:
            return {phrase.casefold(): phrase for phrase in phrases or ()}

        both = folded(self.positive).keys() & folded(self.negative).keys()
        if both:
            raise ValueError(f"{sorted(both)[0]!r} is both a positive and a negative phrase; take it off one side")
        for key, phrases in (("positive", self.positive), ("negative", self.negative)):
            if phrases and len(folded(phrases)) < len(phrases):
                raise ValueError(f"{key} names the same phrase twice; say each once")
        return self

    @property
    def asked(self) -> str:
        """The question in words."""
        return self.question or f"Does the photo show: {self.positive[0]}?"


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
    return _anchored(parse(text, str(path)), path.resolve().parent)


def parse(text: str, source: str = "scenario") -> Scenario:
    """Turn the text of a scenario file into a `Scenario`; `source` names it in errors.

    Raises:
        ScenarioError: The text is not YAML, or says something that is not allowed.
    """
    tree = _yaml_tree(text, source)
    try:
        return Scenario.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(problem, tree, source) for problem in _telling(error.errors())]
        raise ScenarioError("\n".join(lines), hint="every key is explained by: factory new --help") from None


def dump(scenario: Scenario) -> str:
    """The scenario as YAML, every default written out."""
    stream = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 100
    yaml.dump(json.loads(scenario.model_dump_json()), stream)
    return stream.getvalue()


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a scenario file, for editors and CI."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Scenario.model_json_schema()}


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


def _telling(problems: list[Any]) -> list[Any]:
    """Of the errors of a union's branches, those of the branch that the value was meant for."""
    kept = []
    for problem in problems:
        rivals = [p for p in problems if p is not problem and p["loc"][0] == problem["loc"][0]]
        beaten = {
            "literal_error": any(r["type"] not in _WRONG_BRANCH for r in rivals)
            and not isinstance(problem["input"], str),
            "tuple_type": any(r["type"] == "literal_error" for r in rivals),
            "int_type": any(r["type"] == "literal_error" for r in rivals),
            "int_parsing": any(r["type"] == "literal_error" for r in rivals),
            "too_short": any(len(r["loc"]) > len(problem["loc"]) for r in rivals),
        }
        if not beaten.get(problem["type"], False):
            kept.append(problem)
    return kept


_WRONG_BRANCH = ("tuple_type", "int_type", "int_parsing")
_WORDS = {
    "Tuple should have at least 1 item after validation, not 0": "needs at least one entry, or leave the key out",
    "Input should be a valid tuple": "must be a list, such as [forklift, forklift truck]",
    "Input should be a valid string": "must be text; put it in quotes",
}


def _explain(problem: Any, tree: Any, source: str) -> str:
    location = _without_branches(problem["loc"], tree)
    key = ".".join(map(str, location)) or "scenario"
    where = f"{source}:{_line(location, tree)}: {key}"
    kind, value = problem["type"], problem["input"]
    if kind == "missing":
        return f"{where}: is required and missing"
    if kind == "extra_forbidden":
        return f"{where}: unknown key; known here: {', '.join(_known_keys(location[:-1]))}"
    message = _WORDS.get(
        problem["msg"], problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    )
    if kind == "model_type":
        message = f"must hold keys of its own: {', '.join(_known_keys(location))}"
    if kind == "string_pattern_mismatch" and location == ("name",):
        message = "use small letters, digits and single dashes, such as `red-forklift`"
    shown = "" if isinstance(value, dict) else f"{_short(value)}: "
    return f"{where}: {shown}{message}"


def _short(value: Any) -> str:
    text = repr(list(value)) if isinstance(value, (list, tuple)) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _without_branches(location: tuple[Any, ...], tree: Any) -> tuple[Any, ...]:
    """Drop pydantic's names of union branches and validators, which are no keys of the user's file."""
    kept: list[Any] = []
    for part in location:
        if isinstance(tree, dict) and (part in tree or not kept or part in _known_keys(tuple(kept))):
            kept, tree = [*kept, part], tree.get(part)
        elif isinstance(tree, list) and isinstance(part, int) and part < len(tree):
            kept, tree = [*kept, part], tree[part]
    return tuple(kept)


def _known_keys(section: tuple[Any, ...]) -> list[str]:
    model: Any = Scenario
    for part in section:
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field else None
    return list(getattr(model, "model_fields", {}))


def _line(location: tuple[Any, ...], root: Any) -> int:
    """1-based line of the innermost part of `location` that the file holds."""
    line, tree = 0, root
    for part in location:
        try:
            position = tree.lc.item if isinstance(tree, list) else tree.lc.key
            line = position(part)[0]
            tree = tree[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line + 1


def _anchored(scenario: Scenario, folder: Path) -> Scenario:
    images, gold = scenario.images, scenario.gold
    if images.path is not None:
        images = images.model_copy(update={"path": str(folder / Path(images.path).expanduser())})
    if gold is not None:
        gold = str(folder / Path(gold).expanduser())
    return scenario.model_copy(update={"images": images, "gold": gold})


def write_example(name: str, folder: Path) -> Path:
    """Write NAME.yaml, commented, and the JSON Schema that editors check it with; return its path.

    Raises:
        ScenarioError: `name` is no slug, or the file is there already.
    """
    text, path = example(name), folder / f"{name}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ScenarioError(f"{path} is there already", hint="take another name, or delete it") from None
    schema = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    (folder / "scenario.schema.json").write_text(schema, encoding="utf-8")
    return path


def example(name: str) -> str:
    """A commented scenario file to start from.

    Raises:
        ScenarioError: `name` is no slug.
    """
    if not re.fullmatch(SLUG, name) or len(name) > 64:
        raise ScenarioError(f"{name!r} is no scenario name: use small letters, digits and single dashes")
    thing = name.replace("-", " ").replace("_", " ")
    return _EXAMPLE.format(name=name, thing=thing, sets=", ".join(TEMPLATE_SETS), **_defaults())


def _defaults() -> dict[str, Any]:
    student, gate = Student(), Gate()
    return {"student": student, "gate": gate, "teacher": Teacher()}


_EXAMPLE = """\
# yaml-language-server: $schema=scenario.schema.json
# One yes/no question about your photos. Only `name` and `positive` are required.
name: {name}
question: Is there a {thing}?

# Short, concrete words for what a yes looks like. Several phrases all mean yes.
positive:
  - {thing}

# What a no looks like. Name the look-alikes: they are what the student learns to tell apart.
# Never write "no {thing}": CLIP does not understand negation. Left out: everyday things stand in.
# negative:
#   - something that looks like it
#   - the same place without it, in words of its own ("empty warehouse aisle")

# How phrases become sentences: {sets}; or a list of your own, each with one {{}}.
templates: photo

# A folder (searched recursively), a zip or tar archive, or {{url: https://..., sha256: ...}}.
images:
  path: photos/

# Labels from a person, if you have some: a CSV with the columns path,label (yes or no).
# gold: gold.csv

teacher:
  model: {teacher.model}          # auto, offline, hf-hub:OWNER/NAME, local-dir:PATH; or MODEL and `pretrained: WEIGHTS`

student:
  backbone: {student.backbone}       # `factory doctor` lists the others
  image_size: {student.image_size}     # pixels
  budget_kb: {student.budget_kb:g}       # largest size of model.onnx, in kB of 1,000 bytes
  seed: {student.seed}

gate:
  agreement: {gate.agreement}      # least share of confident test images on which student and teacher agree
  gold_accuracy: {gate.gold_accuracy}   # least accuracy on test images that a person has labelled
  parity: {gate.parity}         # largest mean difference of probability between trained network and shipped file
"""
