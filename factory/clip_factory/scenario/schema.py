"""What a scenario may say: every key with its type, its default and its meaning, each in this one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    Tag,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from clip_factory.errors import FactoryError, ScenarioError
from clip_factory.runtime.durations import milliseconds, seconds_text
from clip_factory.runtime.region import box_fault
from clip_factory.runtime.safe_text import is_plain
from clip_factory.scenario.prompts import TemplateSet, negation_in

MIXED = "mixed"
"""The name of several label sources together, as `labels.source` says it."""
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


def _of_kind(*suffixes: str) -> Callable[[str], str]:
    """A check that a path names a file of one of these kinds: a scenario from elsewhere reads and writes no others."""

    def checked(path: str) -> str:
        if not path.lower().endswith(suffixes):
            raise ValueError(f"{path[:200]!a} is no {' or '.join(suffixes)} file")
        return path

    return checked


def _without_password(model: str) -> str:
    address = model.partition("://")[2]
    if "@" in address.partition("/")[0]:
        raise ValueError(
            "this address holds a user or a password, and a scenario holds no secrets; name the address alone, "
            "and put the token of an encoder's server into $FACTORY_ENCODER_TOKEN"
        )
    return model


def _shown_as_it_is(text: str) -> str:
    hidden = next((sign for sign in text if not is_plain(sign)), None)
    if hidden is not None:
        raise ValueError(f"{text!a} holds the hidden sign U+{ord(hidden):04X}, which changes how the rest is shown")
    return text


def _box(value: Any) -> Any:
    if (fault := box_fault(value)) is not None:
        raise ValueError(f"{fault}; or a mask, as {{mask: door.png}}")
    return value


def _duration(text: Any) -> str:
    if not isinstance(text, (str, int, float)):
        raise ValueError("must be a length of time, such as 2s, 500ms, 1m, or a number of seconds")
    try:
        return seconds_text(milliseconds(text))
    except FactoryError as error:
        raise ValueError(f"{error.what}; {error.hint}" if error.hint else error.what) from None


Phrase = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_shown_as_it_is),
    AfterValidator(_affirmative),
]
Template = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=200),
    AfterValidator(_shown_as_it_is),
    AfterValidator(_one_slot),
]
Share = Annotated[float, Field(ge=0, le=1)]
Cost = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Duration = Annotated[
    str, BeforeValidator(_duration), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]})
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    newer: ClassVar[frozenset[str]] = frozenset()
    """Keys that came after version 0.1.0. They are written only where they are set, so that the hash of a scenario
    without them, by which runs and scores are known again, stays what it was."""

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        tree: dict[str, Any] = handler(self)
        defaults = {key: type(self).model_fields[key].default for key in self.newer}
        return {key: value for key, value in tree.items() if key not in defaults or getattr(self, key) != defaults[key]}


class Images(_Section):
    """Where the photos are: `path`, or `url` with its `sha256`."""

    newer = frozenset({"every"})

    path: str | None = None
    """Folder (searched recursively), zip/tar archive, or video. Relative paths start at the scenario file."""
    url: str | None = None
    """Archive or image list behind any fsspec URL: https://, s3://, gs://, file:// and so on."""
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-fA-F]{64}$", to_lower=True)] | None = None
    """Hex sha256 of the bytes behind `url`; they are refused when it differs."""
    every: Duration | None = None
    """Time from one frame of a video to the next that is taken as a photo: 2s, 500ms, 1m, or a number of seconds; left
    out: 2s."""

    @model_validator(mode="after")
    def _one_source(self) -> Images:
        if self.path is not None and self.url is not None:
            raise ValueError("give either path or url, not both")
        if self.url is not None and self.sha256 is None:
            raise ValueError("a url needs its sha256, so that a run can be repeated; get it with: sha256sum FILE")
        return self


class RegionMask(_Section):
    """A region of any shape."""

    mask: Annotated[str, AfterValidator(_of_kind(".png", ".bmp", ".gif", ".jpg", ".jpeg", ".tif", ".tiff", ".webp"))]
    """A picture of a whole photo's outline: white where it is looked at, black where it is not. Relative paths start at
    the scenario file."""


NamedRegion = Annotated[
    Annotated[tuple[Share, Share, Share, Share], BeforeValidator(_box), Tag("a box")]
    | Annotated[RegionMask, Tag("a mask")],
    Discriminator(lambda value: "a mask" if isinstance(value, (dict, RegionMask)) else "a box"),
]


class Teacher(_Section):
    """The dual encoder behind the labels."""

    newer = frozenset({"engine"})

    model: Annotated[str, StringConstraints(min_length=1), AfterValidator(_without_password)] = "auto"
    """`auto`, `offline`, an open_clip model name, `hf-hub:OWNER/NAME`, `local-dir:PATH`, `onnx:DIR` (what `factory
    encoders export` wrote), `http://HOST:PORT` (where `factory encoders serve` runs), or the name of an encoder that an
    installed package adds."""
    pretrained: str | None = None
    """open_clip's tag of the weights, with a model name; `python -m open_clip` lists them."""
    engine: Literal["torch", "onnx"] = "torch"
    """What runs the network: `torch`, or `onnx`, onnxruntime on the CPU. An `auto` teacher gets the faster one."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 64
    """Images a forward pass."""

    @classmethod
    def parse(cls, text: str) -> Teacher:
        """A teacher from its name on a command line: MODEL/WEIGHTS, or a model name alone.

        A name with a scheme (`hf-hub:OWNER/NAME`, `local-dir:PATH`, `onnx:DIR`, `https://HOST/PATH`) is a model as it
        stands, slashes and all.

        Raises:
            ScenarioError: The text is empty, or an address with a password.
        """
        if not text.strip():
            raise ScenarioError("a teacher needs a name", hint="such as: offline, or ViT-B-32-256/datacomp_s34b_b86k")
        try:
            _without_password(text)
        except ValueError as error:
            raise ScenarioError(f"teacher: {error}") from None
        model, _, weights = text.strip().partition("/")
        if not weights or ":" in model:
            return cls(model=text.strip())
        return cls(model=model, pretrained=weights)

    @property
    def name(self) -> str:
        """What `parse` reads: MODEL/WEIGHTS, or the model alone."""
        return f"{self.model}/{self.pretrained}" if self.pretrained else self.model


LOCATING = ("detection", "segmentation")
"""Label sources that show where in a photo they see what they name."""
CHECKPOINTS = {
    "detection": "hf-hub:google/owlv2-base-patch16-ensemble",
    "segmentation": "hf-hub:CIDAS/clipseg-rd64-refined",
    "vqa": "hf-hub:HuggingFaceTB/SmolVLM-256M-Instruct",
    "x-clip": "hf-hub:microsoft/xclip-base-patch32",
}
"""A well-known checkpoint of each label source that needs one."""


class _Source(_Section):
    """One label source, and what it needs."""

    newer = frozenset({"model", "score", "min_area"})

    source: Annotated[str, StringConstraints(min_length=1)] = "zero-shot"
    """What gives each photo its probability of yes: `zero-shot`, the teacher and the phrases; `detection`, boxes that a
    detector draws for the phrases; `segmentation`, the area that a model marks for them; `vqa`, a model that is asked
    the question (visual question answering); `x-clip`, a model that compares whole videos with the phrases; or the
    name of a label source that an installed package adds."""
    model: Annotated[str, StringConstraints(min_length=1)] | None = None
    """The checkpoint of a source that needs one: `hf-hub:OWNER/NAME` or `local-dir:PATH`."""
    score: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of `detection` and `segmentation`: from this score on a box, or a pixel, counts as yes. Left out: 0.2 for boxes,
    0.5 for pixels."""
    min_area: Share | None = None
    """Of `detection` and `segmentation`: the least share of the photo that a box must cover to count, or that must be
    marked for a yes. Left out: 0 for boxes, 0.01 for what is marked."""

    @model_validator(mode="after")
    def _own_keys(self) -> Self:
        if self.source == "zero-shot" and self.model is not None:
            raise ValueError("zero-shot reads no `model`: its encoder is `teacher`; leave the key out")
        if self.source in CHECKPOINTS and self.model is None:
            raise ValueError(f"{self.source} needs a `model`, such as {CHECKPOINTS[self.source]} or local-dir:PATH")
        if self.source not in LOCATING and not (self.score is None and self.min_area is None):
            raise ValueError(f"`score` and `min_area` are for {' and '.join(LOCATING)}; leave them out")
        return self


class Part(_Source):
    """One of several label sources."""

    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """How much its log-odds of yes count in the mean, next to the other sources' weights."""

    @model_validator(mode="after")
    def _single(self) -> Part:
        if self.source == MIXED:
            raise ValueError("a source in `sources` cannot be a mixture itself")
        return self


class Labeling(_Source):
    """How the photos get their labels."""

    newer = _Source.newer | {"sources", "combine", "doubt"}

    refine: Annotated[str, StringConstraints(min_length=1)] = "auto"
    """What improves these probabilities. `auto`: people's labels decide from 20 on, before that the folder's own groups
    correct the words where guards hold. `none`; `transduction`, the groups without guards; `probe`, people's labels
    alone; or the name of a refinement that an installed package adds."""
    sources: Annotated[tuple[Part, ...], Field(min_length=2, max_length=20)] | None = None
    """Several label sources in place of one, in the order in which they are asked."""
    combine: Literal["mean", "cascade"] = "mean"
    """What becomes of the answers of `sources`. `mean`: all are asked about all photos, and the log-odds of yes are
    averaged by weight. `cascade`: each is asked only about the photos on which the mean of those before it is in
    `doubt`."""
    doubt: tuple[Share, Share] = (0.2, 0.8)
    """Probabilities of yes, lowest and highest, between which a cascade asks the next source."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, tree: Any) -> Any:
        """Several sources have a name of their own, as if `source` said it: one place says what is asked."""
        several = isinstance(tree, dict) and tree.get("sources") is not None
        return {"source": MIXED, **tree} if several else tree

    @model_validator(mode="after")
    def _one_or_several(self) -> Labeling:
        if self.sources is None:
            if self.source == MIXED:
                raise ValueError("name the `sources` to mix, two or more")
            if self.model_fields_set & {"combine", "doubt"}:
                raise ValueError("`combine` and `doubt` are for several `sources`")
            return self
        if self.source != MIXED or self.model is not None:
            raise ValueError("give either `source` (with its own keys) or `sources`, not both")
        if len({part.model_copy(update={"weight": 1}) for part in self.sources}) < len(self.sources):
            raise ValueError("`sources` names the same source twice; give it a larger weight")
        if self.doubt[0] >= self.doubt[1]:
            raise ValueError("`doubt` goes from a lower probability to a higher one")
        if self.combine != "cascade" and "doubt" in self.model_fields_set:
            raise ValueError("`doubt` is for `combine: cascade`; the mean asks all sources about all photos")
        return self

    def asks(self, source: str) -> bool:
        """Whether a label source of this name is asked, alone or among others."""
        return source in (self.source, *(part.source for part in self.sources or ()))

    @property
    def name(self) -> str:
        """What sentences call the source: `zero-shot`, or `zero-shot and vqa`."""
        names = list(dict.fromkeys(part.source for part in self.sources or ()))
        return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names) or self.source


class Student(_Section):
    """The small network that is trained and exported."""

    backbone: str = "auto"
    """`auto`, or a name that `factory doctor` lists."""
    weights: Literal["package", "hub"] = "package"
    """What the backbone starts from: `package`, distilled weights that come with the factory, or `hub`, timm's ImageNet
    weights of the same architecture, downloaded once."""
    image_size: Literal["auto"] | Annotated[int, Field(ge=32, le=512, multiple_of=8)] = "auto"
    """Side of the square that the student sees, in pixels."""
    budget_kb: Annotated[float, Field(gt=0, le=100_000)] = 300
    """Largest size of model.onnx, in kB of 1,000 bytes."""
    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    """Number format of the weights in the file; `auto` takes the most accurate that fits the budget."""
    mirror: bool = True
    """Whether a mirrored photo has the same answer: training then mirrors photos at random, and the model averages its
    answers for a photo and its mirror image. `false` where left and right matter (arrows, writing) or time does."""
    epochs: Literal["auto"] | Annotated[int, Field(ge=1, le=10_000)] = "auto"
    """Passes over the training images; `auto` fits them to the number of images."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Fixes splits and training on one machine."""


class Costs(_Section):
    """What mistakes cost, in any one unit."""

    false_yes: Cost = 1.0
    """What a wrong yes costs."""
    false_no: Cost = 1.0
    """What a wrong no costs."""


class Target(_Section):
    """What the threshold is to reach on photos like these: exactly one of these keys."""

    false_alarms: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the no photos that may be answered yes; as many yes photos as that allows are found."""
    recall: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the yes photos that is to be found, with as few false alarms as that allows."""
    precision: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the answers yes that is to be right; as many yes photos as that allows are found."""
    costs: Costs | None = None
    """Whatever costs least."""
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    """This very probability of yes, whatever becomes of it."""

    @model_validator(mode="after")
    def _one_need(self) -> Target:
        named = [key for key in type(self).model_fields if getattr(self, key) is not None]
        if len(named) != 1:
            raise ValueError(f"name exactly one of {', '.join(type(self).model_fields)}")
        return self


Need = Literal["break-even", "balanced"] | Target


class Gate(_Section):
    """The rule: what must be shown on images that the student never saw, at 95 %, before it counts as passed."""

    recall: Share = 0.70
    """Least share of the yes photos that it finds."""
    precision: Share = 0.70
    """Least share of its answers yes that are right; not asked where `target` is `false_alarms`."""
    false_alarms: Share = 0.05
    """Largest share of the no photos that it answers yes; asked in place of precision where `target` is this."""
    balanced_agreement: Share = 0.75
    """Least balanced agreement with the teacher over all test images, where people have labeled too few."""
    agreement: Share = 0.95
    """Least share of confidently labeled test images on which student and teacher agree."""
    gold_accuracy: Share = 0.90
    """Least accuracy on the test images that a person has labeled."""
    parity: Share = 0.01
    """Largest mean difference of probability between the trained network and the exported file."""
    false_yes_cost: Cost = 1.0
    """Older form of `target: {costs: {false_yes: ...}}`, which it sets where no `target` is named."""
    false_no_cost: Cost = 1.0
    """Older form of `target: {costs: {false_no: ...}}`."""


class Scenario(_Section):
    """One yes/no question about one set of photos."""

    newer = frozenset({"region"})

    name: Annotated[str, StringConstraints(pattern=SLUG, max_length=64)]
    """Slug: names the run folder and the model in a registry."""
    question: Annotated[
        str, StringConstraints(strip_whitespace=True, max_length=500), AfterValidator(_shown_as_it_is)
    ] = ""
    """The question in words, for people; empty: made from the first positive phrase."""
    positive: Annotated[tuple[Phrase, ...], Field(min_length=1, max_length=200)]
    """Phrases for yes."""
    negative: Annotated[tuple[Phrase, ...], Field(min_length=1, max_length=1000)] | None = None
    """Phrases for no, look-alikes above all; left out: a documented set of everyday things stands in."""
    templates: TemplateSet | Annotated[tuple[Template, ...], Field(min_length=1, max_length=200)] = "photo"
    """A named set of templates, or a list of strings that each hold `{}` once."""
    images: Images = Images()
    region: NamedRegion | None = None
    """The part of each photo that is asked about, for cameras that do not move: `[x, y, w, h]`, left edge, top edge,
    width and height in shares of the upright photo's width and height, or `{mask: door.png}`. Left out: the whole."""
    gold: Annotated[str, AfterValidator(_of_kind(".csv", ".tsv", ".txt", ".parquet"))] | None = None
    """Labels from a person: a CSV with the columns `path` (relative to the images) and `label` (yes or no), or the
    NAME.gold.parquet of another review of the same photos."""
    answers: Annotated[str, AfterValidator(_of_kind(".jsonl"))] | None = None
    """Where `factory review` keeps people's answers; left out: beside the scenario file and named like it, as
    scenario.answers.jsonl beside scenario.yaml. They are taken into account by themselves, and outrank `gold`."""
    teacher: Teacher = Teacher()
    labels: Labeling = Labeling()
    student: Student = Student()
    target: Need = "break-even"
    """Where the threshold is put. `break-even`: as many false alarms as misses, at the share of yes that these photos
    have. `balanced`: yes and no photos weigh alike, however rare one is. Or what is needed: `{false_alarms: 0.01}`,
    `{recall: 0.9}`, `{precision: 0.9}`, `{costs: {false_yes: 1, false_no: 5}}`."""
    gate: Gate = Gate()

    @model_validator(mode="after")
    def _gate_below_target(self) -> Scenario:
        if isinstance(self.target, Target):
            for key in ("recall", "precision"):
                aim, bar = getattr(self.target, key), getattr(self.gate, key)
                if aim is not None and aim < bar:
                    raise ValueError(f"target.{key} {aim:g} aims lower than gate.{key} {bar:g}: lower the gate's")
            if self.target.false_alarms is not None and self.target.false_alarms > self.gate.false_alarms:
                raise ValueError(
                    f"target.false_alarms {self.target.false_alarms:g} aims higher than gate.false_alarms "
                    f"{self.gate.false_alarms:g}: raise the gate's"
                )
        return self

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

    @property
    def need(self) -> Need:
        """The target, also where a file says it in the older form, as costs of the gate."""
        costs = Costs(false_yes=self.gate.false_yes_cost, false_no=self.gate.false_no_cost)
        return Target(costs=costs) if self.target == "break-even" and costs.false_yes != costs.false_no else self.target


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a scenario file, for editors and CI."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Scenario.model_json_schema()}
