"""The scenario file: what is accepted, what is refused and in which words, and that nothing is lost on the way."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from clip_factory import scenario
from clip_factory.errors import ScenarioError
from clip_factory.scenario import Scenario, Teacher, dump, json_schema, load, parse

MINIMAL = "name: forklift\npositive: [forklift]\n"

words = st.text("abcdefghij äß'\"#:-{}[]&*!|>%@`", min_size=1, max_size=20).map(str.strip).filter(bool)
phrases = st.lists(words, min_size=1, max_size=5, unique_by=str.casefold)


def test_defaults_are_written_out() -> None:
    resolved = YAML(typ="safe").load(dump(parse(MINIMAL)))

    assert resolved["student"] == {
        "backbone": "auto",
        "weights": "package",
        "image_size": "auto",
        "budget_kb": 300,
        "precision": "auto",
        "mirror": True,
        "epochs": "auto",
        "seed": 0,
    }
    assert resolved["gate"]["agreement"] == 0.95


def test_answers_live_beside_the_scenario_file_and_a_run_remembers_where(tmp_path: Path) -> None:
    (tmp_path / "ball.yaml").write_text(MINIMAL, encoding="utf-8")
    request = load(tmp_path / "ball.yaml")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "scenario.yaml").write_text(dump(request), encoding="utf-8")

    assert request.answers == str(tmp_path / "ball.answers.jsonl")
    assert load(tmp_path / "run" / "scenario.yaml").answers == request.answers
    (tmp_path / "ball.yaml").write_text(MINIMAL + "answers: people/b.jsonl\n", encoding="utf-8")
    assert load(tmp_path / "ball.yaml").answers == str(tmp_path / "people" / "b.jsonl")


@given(positive=phrases, negative=phrases, seed=st.integers(0, 2**32 - 1), budget=st.floats(1, 5000))
def test_dump_and_parse_are_inverse(positive: list[str], negative: list[str], seed: int, budget: float) -> None:
    taken = {phrase.casefold() for phrase in positive}
    first = Scenario.model_validate(
        {
            "name": "a-b",
            "positive": positive,
            "negative": [p for p in negative if p.casefold() not in taken] or None,
            "student": {"seed": seed, "budget_kb": budget},
        }
    )

    assert parse(dump(first)) == first


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused_politely(text: str) -> None:
    try:
        parse(text)
    except ScenarioError as error:
        assert str(error).startswith("scenario")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("positive: [a]", "f.yaml:1: name: is required and missing"),
        ("name: Red Truck\npositive: [a]", "f.yaml:1: name: 'Red Truck': use small letters, digits and single dashes"),
        ("name: x\npositive: []", "f.yaml:2: positive: []: needs at least one entry"),
        ("name: x\npositive: [cat, '']", "f.yaml:2: positive.1: '': must not be empty"),
        (
            "name: x\npositive: [a]\nimages: {every: [1]}",
            "f.yaml:3: images.every: [1]: must be a length of time",
        ),
        ("name: x\npositive: cat", "f.yaml:2: positive: 'cat': must be a list, such as [forklift, forklift truck]"),
        ("name: x\npositive:\n- cat\n- no dog", "f.yaml:4: positive.1: 'no dog': 'no dog' says 'no', which CLIP"),
        ("name: x\npositive: [Cat]\nnegative: [cat]", "'cat' is both a positive and a negative phrase"),
        ("name: x\npositive: [cat, CAT]", "positive names the same phrase twice"),
        ("name: x\npositive: [a]\nstudent:\n  sead: 1", "f.yaml:4: student.sead: unknown key; known here: backbone,"),
        ("name: x\npositive: [a]\nstudent: {image_size: 65}", "student.image_size: 65: must be a multiple of 8"),
        ("name: x\npositive: [a]\ntemplates: foto", "templates: 'foto': must be 'plain', 'photo',"),
        ("name: x\npositive: [a]\ntemplates: ['a photo']", "f.yaml:3: templates.0: 'a photo': 'a photo' must hold {}"),
        ("name: x\npositive: [a]\nimages: {url: 's3://b/a.zip'}", "f.yaml:3: images: a url needs its sha256"),
        ("name: x\npositive: [a]\nimages: {path: a, url: b}", "f.yaml:3: images: give either path or url, not both"),
        ("name: x\npositive: [a]\nteacher: offline", "f.yaml:3: teacher: 'offline': must hold keys of its own: model,"),
        ("name: x\npositive: [a]\ngate: {parity: 2}", "f.yaml:3: gate.parity: 2: must be less than or equal to 1"),
        ("name: x\nname: y\npositive: [a]", 'f.yaml:2: not valid YAML: found duplicate key "name"'),
        ("name: x\npositive: [a", "f.yaml:2: not valid YAML:"),
        ("- a", "f.yaml: expected keys and values"),
        ("x: &a [*a]", "f.yaml"),
    ],
)
def test_errors_name_file_line_key_value_and_remedy(text: str, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(text, "f.yaml")

    assert message in str(caught.value)


def test_all_errors_of_a_file_are_told_at_once() -> None:
    with pytest.raises(ScenarioError) as caught:
        parse("name: X\npositive: []\nfoo: 1\n", "f.yaml")

    assert [line.split(" ")[0] for line in str(caught.value).splitlines()[:3]] == [
        "f.yaml:1:",
        "f.yaml:2:",
        "f.yaml:3:",
    ]


def test_a_quoted_name_may_say_no() -> None:
    assert parse("name: x\npositive: ['\"no parking\" sign']").positive == ('"no parking" sign',)


def test_paths_start_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(MINIMAL + "images: {path: photos}\ngold: ../gold.csv\n", encoding="utf-8")

    loaded = load(tmp_path / "s.yaml")

    assert Path(loaded.images.path or "") == tmp_path / "photos"
    assert Path(loaded.gold or "") == tmp_path / ".." / "gold.csv"


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="factory new"):
        load(tmp_path / "none.yaml")


def test_new_writes_an_example_that_loads_and_never_overwrites(tmp_path: Path) -> None:
    path = scenario.write_example("red-forklift", tmp_path)

    assert load(path).positive == ("red forklift",)
    with pytest.raises(ScenarioError, match="is there already"):
        scenario.write_example("red-forklift", tmp_path)
    with pytest.raises(ScenarioError, match="is no scenario name"):
        scenario.write_example("../evil", tmp_path)


def test_the_example_explains_every_key_it_sets_and_sets_the_defaults() -> None:
    tree = YAML(typ="safe").load(scenario.example("x"))
    blank = Scenario(name="x", positive=("x",))

    for section in ("teacher", "student", "gate"):
        for key, value in tree[section].items():
            assert getattr(getattr(blank, section), key) == value, f"{section}.{key}"
    assert tree["templates"] == blank.templates


def test_the_schema_in_the_repository_is_the_models() -> None:
    stored = Path(__file__).parents[2] / "datasets" / "scenario.schema.json"

    assert json.loads(stored.read_text(encoding="utf-8")) == json_schema(), "run: scripts/schema"


def test_the_schema_agrees_with_the_parser() -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    loader = YAML(typ="safe")

    assert not list(validator.iter_errors(loader.load(scenario.example("x"))))
    for bad in ("positive: [a]", "name: x\npositive: []", "name: x\npositive: [a]\nfoo: 1"):
        assert list(validator.iter_errors(loader.load(bad))), bad


def test_every_key_has_a_description() -> None:
    schema = json_schema()
    sections = [schema, *schema["$defs"].values()]

    missing = [
        f"{section['title']}.{name}"
        for section in sections
        for name, field in section.get("properties", {}).items()
        if "description" not in field and "$ref" not in field
    ]
    assert not missing


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("soon", "target: 'soon': must be 'break-even' or 'balanced'"),
        ("0.5", "target: 0.5: must be break-even, balanced, or hold one of false_alarms, recall, precision, costs"),
        ("{recal: 0.9}", "target.recal: unknown key; known here: false_alarms, recall, precision, costs, threshold"),
        ("{recall: 2}", "target.recall: 2: must be less than 1"),
        (
            "{recall: 0.9, precision: 0.9}",
            "target: name exactly one of false_alarms, recall, precision, costs, threshold",
        ),
        ("{recall: 0.5}", "target.recall 0.5 aims lower than gate.recall 0.7: lower the gate's"),
        ("{false_alarms: 0.06}", "target.false_alarms 0.06 aims higher than gate.false_alarms 0.05: raise the gate's"),
    ],
)
def test_a_wrong_target_is_explained(target: str, words: str) -> None:
    with pytest.raises(ScenarioError) as error:
        parse(f"name: x\npositive: [x]\ntarget: {target}\n")
    assert words in str(error.value)


def test_costs_of_the_gate_are_the_older_form_of_a_target() -> None:
    old = parse("name: x\npositive: [x]\ngate: {false_yes_cost: 1.0, false_no_cost: 5}\n")

    assert old.need.costs.false_no == 5
    assert parse("name: x\npositive: [x]\ngate: {false_yes_cost: 1.0, false_no_cost: 1.0}\n").need == "break-even"
    named = parse("name: x\npositive: [x]\ntarget: balanced\ngate: {false_no_cost: 5}\n")
    assert named.need == "balanced"


@pytest.mark.parametrize(
    ("text", "model", "pretrained"),
    [
        ("offline", "offline", None),
        ("ViT-B-32-256/datacomp_s34b_b86k", "ViT-B-32-256", "datacomp_s34b_b86k"),
        ("hf-hub:timm/ViT-B-16-SigLIP", "hf-hub:timm/ViT-B-16-SigLIP", None),
        ("local-dir:/models/clip", "local-dir:/models/clip", None),
        ("onnx:exports/clip", "onnx:exports/clip", None),
        ("https://h/x", "https://h/x", None),
        ("http://localhost:8000/v1", "http://localhost:8000/v1", None),
    ],
)
def test_a_teachers_name_is_read_in_one_place(text: str, model: str, pretrained: str | None) -> None:
    teacher = Teacher.parse(text)

    assert (teacher.model, teacher.pretrained) == (model, pretrained)
    assert teacher.name == text


SEVERAL = "labels: {sources: [{source: zero-shot}, {source: vqa, model: 'local-dir:m', weight: 2}]}\n"


def test_several_label_sources_are_written_and_read_back_and_have_a_name() -> None:
    labels = parse(MINIMAL + SEVERAL).labels

    assert parse(dump(parse(MINIMAL + SEVERAL))).labels == labels
    assert (labels.source, labels.name, labels.combine, labels.doubt) == (
        "mixed",
        "zero-shot and vqa",
        "mean",
        (0.2, 0.8),
    )
    assert labels.sources is not None and [part.weight for part in labels.sources] == [1, 2]
    assert labels.asks("vqa") and labels.asks("zero-shot") and not labels.asks("detection")
    assert labels.model_dump(mode="json") == {
        "source": "mixed",
        "refine": "auto",
        "sources": [{"source": "zero-shot", "weight": 1.0}, {"source": "vqa", "model": "local-dir:m", "weight": 2.0}],
    }


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            "{source: zero-shot, sources: [{source: a}, {source: b}]}",
            "either `source` (with its own keys) or `sources`",
        ),
        ("{model: 'local-dir:m', sources: [{source: a}, {source: b}]}", "either `source` (with its own keys) or"),
        ("{sources: [{source: a}]}", "labels.sources: [{'source': 'a'}]: needs two entries or more"),
        ("{sources: []}", "labels.sources: []: needs two entries or more, or leave the key out"),
        ("{sources: zero-shot}", "labels.sources: 'zero-shot': must be a list"),
        ("{sources: [{source: a}, {source: a, weight: 2}]}", "names the same source twice"),
        ("{sources: [{source: a}, {source: mixed}]}", "labels.sources.1: a source in `sources` cannot be a mixture"),
        (
            "{sources: [{source: a}, {source: b, sources: []}]}",
            "unknown key; known here: source, model, score, min_area, weight",
        ),
        ("{sources: [{source: a}, {source: b, weight: 0}]}", "labels.sources.1.weight: 0: must be greater than 0"),
        ("{sources: [{source: a}, {source: vqa}]}", "labels.sources.1: vqa needs a `model`, such as hf-hub:"),
        ("{sources: [{source: a}, {source: zero-shot, model: x}]}", "labels.sources.1: zero-shot reads no `model`"),
        ("{sources: [{source: a}, {source: b}], combine: median}", "labels.combine: 'median': must be 'mean' or"),
        ("{sources: [{source: a}, {source: b}], doubt: [0.1, 0.9]}", "`doubt` is for `combine: cascade`"),
        ("{sources: [{source: a}, {source: b}], doubt: [0.2, 0.8]}", "`doubt` is for `combine: cascade`"),
        ("{sources: [{source: a}, {source: b}], doubt: [0.5]}", "labels.doubt: has too few entries"),
        ("{sources: [{source: a}, {source: b, weight: .nan}]}", "labels.sources.1.weight: nan: must be a number"),
        ("{sources: [{source: a}, {source: b}], combine: cascade, doubt: [0.8, 0.2]}", "from a lower probability to"),
        ("{sources: [{source: a}, {source: b}], combine: cascade, doubt: [0.1, 1.2]}", "less than or equal to 1"),
        ("{source: mixed}", "name the `sources` to mix"),
        ("{combine: cascade}", "`combine` and `doubt` are for several `sources`"),
        ("{doubt: [0.2, 0.8]}", "`combine` and `doubt` are for several `sources`"),
        ("{source: vqa}", "labels: vqa needs a `model`, such as hf-hub:"),
        ("{source: vqa, model: ''}", "labels.model: '': must not be empty"),
        ("{source: x-clip}", "labels: x-clip needs a `model`, such as hf-hub:microsoft/xclip-base-patch32"),
        ("{model: 'hf-hub:a/b'}", "labels: zero-shot reads no `model`"),
    ],
)
def test_what_several_sources_cannot_say_is_refused(section: str, message: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        parse(f"{MINIMAL}labels: {section}\n")
    assert message in str(refused.value)


def test_a_teacher_without_a_name_is_refused() -> None:
    with pytest.raises(ScenarioError, match="a teacher needs a name"):
        Teacher.parse(" ")


def test_files_without_labels_have_the_defaults_and_names_are_text() -> None:
    assert parse(MINIMAL).labels.model_dump() == {"source": "zero-shot", "refine": "auto"}
    assert parse(MINIMAL + "labels: {refine: none}\n").labels.refine == "none"
    known = "source, model, score, min_area, refine, sources, combine, doubt"
    with pytest.raises(ScenarioError, match=rf"labels\.sauce: unknown key; known here: {known}"):
        parse(MINIMAL + "labels: {sauce: vqa}\n")


def test_detection_and_segmentation_have_keys_of_their_own() -> None:
    labels = parse(MINIMAL + "labels: {source: detection, model: 'local-dir:x', score: 0.3, min_area: 0.1}\n").labels

    assert (labels.model, labels.score, labels.min_area) == ("local-dir:x", 0.3, 0.1)
    assert parse(
        dump(parse(MINIMAL + "labels: {source: segmentation, model: 'local-dir:x'}\n"))
    ).labels.model_dump() == {
        "source": "segmentation",
        "model": "local-dir:x",
        "refine": "auto",
    }


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("{source: detection}", "detection needs a `model`, such as hf-hub:google/owlv2-base-patch16-ensemble"),
        ("{source: segmentation}", "segmentation needs a `model`, such as hf-hub:CIDAS/clipseg-rd64-refined"),
        ("{score: 0.3}", "`score` and `min_area` are for detection and segmentation; leave them out"),
        ("{source: mine, min_area: 0.3}", "`score` and `min_area` are for detection and segmentation"),
        ("{model: 'local-dir:x'}", "zero-shot reads no `model`: its encoder is `teacher`"),
        ("{source: detection, model: m, score: 1}", "labels.score: 1: must be less than 1"),
        ("{source: detection, model: m, min_area: 2}", "labels.min_area: 2: must be less than or equal to 1"),
    ],
)
def test_keys_of_a_label_source_that_make_no_sense_are_refused(labels: str, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(MINIMAL + f"labels: {labels}\n")
    assert message in str(caught.value)
