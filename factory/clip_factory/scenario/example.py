"""The commented example that `factory new` writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

from clip_factory.errors import ScenarioError
from clip_factory.runtime.atomic import atomic_new, write_text
from clip_factory.scenario.prompts import TEMPLATE_SETS
from clip_factory.scenario.schema import SLUG, Gate, Labeling, Student, Teacher, json_schema


def write_example(name: str, folder: Path) -> Path:
    """Write NAME.yaml, commented, and the JSON Schema that editors check it with; return its path.

    Raises:
        ScenarioError: `name` is no slug, or the file is there already.
    """
    text, path = example(name), folder / f"{name}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_new(path, need_links=False) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except FileExistsError:
        raise ScenarioError(f"{path} is there already", hint="use another name, or delete it") from None
    schema = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    write_text(folder / "scenario.schema.json", schema)
    return path


def example(name: str) -> str:
    """A commented scenario file to start from.

    Raises:
        ScenarioError: `name` is no slug.
    """
    if not re.fullmatch(SLUG, name) or len(name) > 64:
        raise ScenarioError(f"{name!r} is no scenario name: use small letters, digits and single dashes")
    thing = name.replace("-", " ").replace("_", " ")
    sections = {"teacher": Teacher(), "labels": Labeling(), "student": Student(), "gate": Gate()}
    return _EXAMPLE.format(name=name, thing=thing, sets=", ".join(TEMPLATE_SETS), **sections)


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

# A folder (searched recursively), a zip or tar archive, a video (`every: 2s`), or {{url: https://..., sha256: ...}}.
images:
  path: photos/

# Of photos from a camera that does not move, the part that is asked about: left edge, top edge, width and height in
# shares of the photo, or a picture of it in which that part is white and the rest black.
# region: [0.4, 0.3, 0.25, 0.5]
# region: {{mask: door.png}}

# Labels from a person, if you have some: a CSV with the columns path,label (yes or no).
# gold: gold.csv

teacher:
  # auto, offline, hf-hub:OWNER/NAME, local-dir:PATH, onnx:DIR, http://HOST:PORT; or MODEL and `pretrained: WEIGHTS`
  model: {teacher.model}

labels:
  # What gives each photo its probability of yes: zero-shot; or, with `model: hf-hub:OWNER/NAME`, one of detection,
  # segmentation, vqa, x-clip; or several of these, `sources: [...]`.
  source: {labels.source}
  refine: {labels.refine}             # auto: the folder's groups and people's labels improve the words; or none

student:
  backbone: {student.backbone}       # `factory doctor` lists the others
  image_size: {student.image_size}     # pixels
  budget_kb: {student.budget_kb:g}       # largest size of model.onnx, in kB of 1,000 bytes
  seed: {student.seed}

# Where the threshold is put: break-even (as many false alarms as misses), balanced, or what you need, one of
# {{false_alarms: 0.01}}, {{recall: 0.9}}, {{precision: 0.9}}, {{costs: {{false_yes: 1, false_no: 5}}}},
# {{threshold: 0.4}}
target: break-even

# What must be shown, at 95 %, before the model counts as passed.
gate:
  recall: {gate.recall}         # least share of the yes photos that it finds
  precision: {gate.precision}      # least share of its answers yes that are right
  agreement: {gate.agreement}      # least share of confident test images on which student and teacher agree
  gold_accuracy: {gate.gold_accuracy}   # least accuracy on test images that a person has labeled
  parity: {gate.parity}         # largest mean difference of probability between trained network and exported file
"""
