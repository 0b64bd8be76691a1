"""Models of transformers that answer questions about photos, asked for the probabilities of yes and no.

Three kinds, told apart by what their checkpoint holds; each answers in one forward pass, and nothing is generated:

- classifiers over a list of answers (ViLT);
- BLIP's encoder of questions with a decoder of answers;
- language models that see (SmolVLM, LLaVA, Qwen2-VL and so on): what they would say next after the question.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from clip_factory.errors import ScenarioError, TeacherError
from clip_factory.label_sources.checkpoint import Checkpoint
from clip_factory.label_sources.pretrained import UNFIT, load_network, load_part, reason

YES, NO = ("yes", "Yes", "YES"), ("no", "No", "NO")
WORD_STARTS = ("", "\u0120", "\u2581")
"""How vocabularies mark a space before a word: not at all, as byte-level BPE does, as SentencePiece does."""
INSTRUCTION = "Answer yes or no."
MAX_FLOAT32 = 2_000_000_000
"""On a GPU models with more weights than this compute in bfloat16: half the memory, log-odds rounded to about 0.1."""
DEFAULT_SIDE = 448
SIDES = ("height", "width", "shortest_edge", "longest_edge")
"""Keys of a processor's `size` ..."""
MIN_AREA = 10_000
"""... where the same keys hold areas in place of lengths, as Qwen2-VL's do: from here on."""


class Answerer(Protocol):
    """Answers one question about photos."""

    version: str
    """Of the way in which it is asked."""
    image_size: int
    """Pixels of each side of a photo that it can use."""

    def answer(self, images: Sequence[Image.Image], question: str) -> np.ndarray:
        """Probabilities of the answers yes and no among all that it could give: float64 `(N, 2)` in [0, 1].

        Raises:
            TeacherError: It cannot be asked this way.
            ScenarioError: The question is longer than it reads.
        """


def load_answerer(checkpoint: Checkpoint) -> Answerer:
    """The model of a checkpoint, on the GPU where there is one.

    Raises:
        TeacherError: It cannot be loaded, is of no such kind, or knows no single sign for yes or no.
    """
    import transformers

    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    config = load_part(checkpoint, transformers.AutoConfig)
    architecture = str((getattr(config, "architectures", None) or [""])[0])
    if architecture.endswith("ForQuestionAnswering") and type(config) in _kinds("VISUAL_QUESTION_ANSWERING"):
        model = load_network(checkpoint, transformers.AutoModelForVisualQuestionAnswering, MAX_FLOAT32)
        kind = QuestionEncoder if hasattr(model, "text_decoder") else AnswerClassifier
        return kind(checkpoint, model, load_part(checkpoint, transformers.AutoProcessor))
    encoder_decoder = getattr(config.get_text_config(), "is_encoder_decoder", False)
    if type(config) not in _kinds("IMAGE_TEXT_TO_TEXT") or encoder_decoder:
        raise TeacherError(
            f"model {checkpoint.name}: {architecture or config.model_type} answers no questions about photos",
            hint="a visual question answering model such as ViLT or BLIP, or a language model that sees, as SmolVLM",
        )
    model = load_network(checkpoint, transformers.AutoModelForImageTextToText, MAX_FLOAT32)
    return NextToken(checkpoint, model, load_part(checkpoint, transformers.AutoProcessor))


class AnswerClassifier:
    """A model with a fixed list of answers, ViLT's way (Kim et al. 2021, arXiv:2102.03334)."""

    version = "list-1"

    def __init__(self, checkpoint: Checkpoint, model: Any, processor: Any) -> None:
        self._checkpoint, self._model, self._processor = checkpoint, model, processor
        self.image_size = _side(processor)
        answers = {str(name).strip().casefold(): int(index) for index, name in model.config.id2label.items()}
        if not {"yes", "no"} <= answers.keys():
            raise TeacherError(
                f"model {checkpoint.name}: yes and no are not among its {len(answers):,} answers",
                hint="name a model that was trained to answer questions, such as one on VQAv2",
            )
        self._columns = [answers["yes"], answers["no"]]
        if hasattr(model.config, "max_image_length"):
            model.config.max_image_length = -1  # all of a photo: else a random part of it, another each time

    def answer(self, images: Sequence[Image.Image], question: str) -> np.ndarray:
        """The softmax over its answers, of which yes and no."""
        _check_length(self._checkpoint, self._processor.tokenizer, self._model, question)
        inputs = _inputs(self._checkpoint, self._processor, self._model, images, question)
        with torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed(0)  # ViLT shuffles the parts of a photo, which changes the last digits
            probabilities = self._model(**inputs).logits.float().softmax(dim=-1)
        return np.asarray(probabilities[:, self._columns].double().cpu().numpy())


class QuestionEncoder:
    """BLIP's way (Li et al. 2022, arXiv:2201.12086): a decoder begins its answer to an encoded question."""

    version = "encoder-1"

    def __init__(self, checkpoint: Checkpoint, model: Any, processor: Any) -> None:
        self._checkpoint, self._model, self._processor = checkpoint, model, processor
        self.image_size = _side(processor)
        self._tokens = _answer_tokens(checkpoint, processor.tokenizer)

    def answer(self, images: Sequence[Image.Image], question: str) -> np.ndarray:
        """What the decoder would begin its answer with."""
        _check_length(self._checkpoint, self._processor.tokenizer, self._model, question)
        inputs = _inputs(self._checkpoint, self._processor, self._model, images, question)
        model = self._model
        with torch.inference_mode():
            seen = model.vision_model(pixel_values=inputs["pixel_values"]).last_hidden_state
            asked = model.text_encoder(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                encoder_hidden_states=seen,
                encoder_attention_mask=torch.ones(seen.shape[:-1], dtype=torch.long, device=seen.device),
            ).last_hidden_state
            start = torch.full((len(images), 1), model.decoder_start_token_id, device=seen.device)
            logits = model.text_decoder(
                input_ids=start,
                encoder_hidden_states=asked,
                encoder_attention_mask=inputs["attention_mask"],
            ).logits[:, -1]
        return _probabilities(logits, self._tokens)


class NextToken:
    """A language model that sees: what it would say first, after the question and "Answer yes or no."."""

    version = "token-1"

    def __init__(self, checkpoint: Checkpoint, model: Any, processor: Any) -> None:
        self._checkpoint, self._model, self._processor = checkpoint, model, processor
        self.image_size = _side(processor)
        # what stands before it is all that a token's answer rests on: filled up at the end, a prompt's is as if alone
        processor.tokenizer.padding_side = "right"
        if processor.tokenizer.pad_token is None:
            processor.tokenizer.pad_token = processor.tokenizer.eos_token
        self._tokens = _answer_tokens(checkpoint, processor.tokenizer)
        self._options = inspect.signature(model.forward).parameters.keys()

    def answer(self, images: Sequence[Image.Image], question: str) -> np.ndarray:
        """The distribution of the next token after each prompt, of which the tokens for yes and for no."""
        prompt = self._prompt(question)
        inputs = _inputs(self._checkpoint, self._processor, self._model, images, prompt)
        _check_length(self._checkpoint, self._processor.tokenizer, self._model, inputs["input_ids"])
        positions = torch.arange(inputs["attention_mask"].shape[1], device=self._model.device)
        last = (inputs["attention_mask"] * positions).argmax(dim=1)
        kept, rows = last.unique(return_inverse=True)
        options: dict[str, Any] = {"use_cache": False} if "use_cache" in self._options else {}
        if "logits_to_keep" in self._options:  # a vocabulary's width for every token of a photo is gigabytes
            options["logits_to_keep"] = kept
        else:
            rows = last
        with torch.inference_mode():
            logits = _refusing(self._checkpoint, self._model, **inputs, **options).logits
        return _probabilities(logits[torch.arange(len(images), device=rows.device), rows], self._tokens)

    def _prompt(self, question: str) -> str:
        asked = f"{question} {INSTRUCTION}"
        if getattr(self._processor, "chat_template", None):
            turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": asked}]}
            return str(self._processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=False))
        sign = getattr(self._processor, "image_token", None)
        shown = f"{sign}\n" if isinstance(sign, str) else ""  # others put it there themselves
        return f"{shown}Question: {asked} Answer:"


def _kinds(task: str) -> Any:
    """The configurations of the models that transformers knows for a task."""
    from transformers.models.auto import modeling_auto

    return getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING")


def _inputs(
    checkpoint: Checkpoint, processor: Any, model: Any, images: Sequence[Image.Image], text: str
) -> dict[str, Any]:
    """What a processor makes of N photos and one text, as the network needs it."""
    start = getattr(processor.tokenizer, "bos_token", None)
    options = {"add_special_tokens": False} if start and text.startswith(start) else {}
    several = [[image] for image in images]
    inputs = _refusing(
        checkpoint, processor, images=several, text=[text] * len(images), return_tensors="pt", padding=True, **options
    )
    given = dict(inputs.to(model.device, model.dtype))
    given.pop("labels", None)  # PaliGemma's, for training
    return given


def _refusing(checkpoint: Checkpoint, call: Any, **arguments: Any) -> Any:
    """A call into transformers; what it refuses is the checkpoint's fault."""
    try:
        return call(**arguments)
    except UNFIT as error:
        raise TeacherError(
            f"model {checkpoint.name}: cannot be asked about photos ({reason(error)})",
            hint="its processor must read photos with text; some need a package more, which the message names",
        ) from error


def _side(processor: Any) -> int:
    """Pixels of each side that a processor keeps of a photo."""
    size = getattr(getattr(processor, "image_processor", None), "size", None) or {}
    side = max((int(value) for name, value in dict(size).items() if value and name in SIDES), default=DEFAULT_SIDE)
    return side if side < MIN_AREA else math.isqrt(side)


def _check_length(checkpoint: Checkpoint, tokenizer: Any, model: Any, question: Any) -> None:
    """Refuse what the model would not read to its end.

    Raises:
        ScenarioError: The question, a text or token ids `(N, L)`, has more tokens than the model reads.
    """
    count = len(tokenizer(question)["input_ids"]) if isinstance(question, str) else question.shape[1]
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if most and count > most:
        raise ScenarioError(
            f"question: has {count:,} tokens, and the model {checkpoint.name} reads {most:,}",
            hint="ask in fewer words, or name another model",
        )


def _answer_tokens(checkpoint: Checkpoint, tokenizer: Any) -> list[list[int]]:
    """Ids of the tokens that begin the answer yes, and of those that begin the answer no."""
    sides = [sorted(_single_tokens(tokenizer, words)) for words in (YES, NO)]
    for word, ids in zip(("yes", "no"), sides, strict=True):
        if not ids:
            raise TeacherError(
                f"model {checkpoint.name}: its tokenizer has no single token for {word}",
                hint="such a model cannot be asked for yes or no in one pass: name another",
            )
    return sides


def _single_tokens(tokenizer: Any, words: Iterable[str]) -> set[int]:
    vocabulary = tokenizer.get_vocab()
    ids = {vocabulary[start + word] for word in words for start in WORD_STARTS if start + word in vocabulary}
    for word in words:
        tokens = tokenizer(word, add_special_tokens=False)["input_ids"]
        if len(tokens) == 1 and tokens[0] != tokenizer.unk_token_id:
            ids.add(int(tokens[0]))
    return ids


def _probabilities(logits: torch.Tensor, tokens: Sequence[list[int]]) -> np.ndarray:
    """From logits `(N, V)`: the share of each side's tokens in the whole distribution, float64 `(N, 2)`."""
    logs = logits.double().log_softmax(dim=-1)
    return np.asarray(torch.stack([logs[:, ids].exp().sum(dim=1) for ids in tokens], dim=1).cpu().numpy())
