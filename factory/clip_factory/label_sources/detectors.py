"""Open-vocabulary detectors of transformers: photos and phrases to boxes, with log-odds of each phrase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from clip_factory.errors import ScenarioError, TeacherError
from clip_factory.label_sources.checkpoint import Checkpoint
from clip_factory.label_sources.localization import Locator
from clip_factory.label_sources.pretrained import check_lengths, half_precision, load_network, load_part


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector sees in one photo."""

    log_odds: np.ndarray
    """float32 `(N, P)`: of each phrase in each box."""
    boxes: np.ndarray
    """float32 `(N, 4)`: left, upper, right and lower edge as shares of the photo; they may lie outside of [0, 1]."""


class Detector(Locator, Protocol):
    """Sees phrases in photos."""

    def detect(self, images: Sequence[Image.Image], phrases: Sequence[str]) -> list[Detections]:
        """What it sees in each of some upright RGB images."""


def load_detector(checkpoint: Checkpoint) -> Detector:
    """The detector of a checkpoint, on the GPU where there is one.

    Raises:
        TeacherError: It cannot be loaded, or is no such detector.
    """
    import transformers

    kind = load_part(checkpoint, transformers.AutoConfig).model_type
    if kind not in KINDS:
        raise TeacherError(
            f"model {checkpoint.name}: {kind} is no detector that is known here",
            hint=f"kinds: {', '.join(KINDS)}; such as hf-hub:google/owlv2-base-patch16-ensemble",
        )
    network = load_network(checkpoint, transformers.AutoModelForZeroShotObjectDetection)
    return KINDS[kind](checkpoint, network, load_part(checkpoint, transformers.AutoProcessor))


class OwlDetector:
    """OWL-ViT (Minderer et al. 2022, arXiv:2205.06230) and OWLv2 (2023, arXiv:2306.09683): a box for each patch, and
    the likeness of what is in it to each phrase.
    """

    def __init__(self, checkpoint: Checkpoint, network: Any, processor: Any) -> None:
        self._checkpoint, self._network, self._processor = checkpoint, network, processor
        self.image_size = int(network.config.vision_config.image_size)
        self._most_tokens = int(network.config.text_config.max_position_embeddings)

    def check(self, phrases: Sequence[str]) -> None:
        """Refuse phrases of more tokens than its text encoder has places for."""
        check_lengths(self._checkpoint, self._processor.tokenizer, phrases, self._most_tokens)

    def detect(self, images: Sequence[Image.Image], phrases: Sequence[str]) -> list[Detections]:
        """A box for each patch."""
        network, texts = self._network, [list(phrases)] * len(images)
        length = {"padding": "max_length", "max_length": self._most_tokens}
        inputs = self._processor(text=texts, images=list(images), return_tensors="pt", **length).to(network.device)
        with torch.inference_mode(), half_precision(network):
            outputs = network(**inputs)
        return _detections(outputs.logits, outputs.pred_boxes, [self._edges(image) for image in images])

    def _edges(self, image: Image.Image) -> tuple[float, float]:
        """The square that boxes are shares of, as shares of the photo: OWLv2 fills photos up at the right and below."""
        longest = max(image.size) if self._network.config.model_type == "owlv2" else 0
        return (longest or image.width) / image.width, (longest or image.height) / image.height


class GroundingDetector:
    """Grounding DINO (Liu et al. 2023, arXiv:2303.05499): all phrases in one text, of whose tokens each box says how
    well they describe it; a phrase has the score of its best token.
    """

    def __init__(self, checkpoint: Checkpoint, network: Any, processor: Any) -> None:
        self._checkpoint, self._network, self._processor = checkpoint, network, processor
        size = dict(processor.image_processor.size)
        self.image_size = int(size.get("longest_edge") or max(size.values()))
        self._most_tokens = int(network.config.max_text_len)

    def check(self, phrases: Sequence[str]) -> None:
        """Refuse texts of more tokens than it reads, and phrases with a full stop, which ends a phrase."""
        if stop := next((phrase for phrase in phrases if "." in phrase), None):
            raise ScenarioError(
                f"phrase {stop!r}: the model {self._checkpoint.name} ends a phrase at a full stop",
                hint="say it without one",
            )
        check_lengths(self._checkpoint, self._processor.tokenizer, [_sentence(phrases)], self._most_tokens)

    def detect(self, images: Sequence[Image.Image], phrases: Sequence[str]) -> list[Detections]:
        """A box for each of the network's queries."""
        text = _sentence(phrases)
        spans = self._spans(text, phrases)
        # one by one: photos of other shapes in a batch would be filled up, which changes what is seen in them
        return [self._detected(image, text, spans) for image in images]

    def _detected(self, image: Image.Image, text: str, spans: Sequence[list[int]]) -> Detections:
        network = self._network
        inputs = self._processor(text=text, images=image, return_tensors="pt").to(network.device)
        with torch.inference_mode(), half_precision(network):
            outputs = network(**inputs)
        by_phrase = torch.stack([outputs.logits[..., span].amax(dim=-1) for span in spans], dim=-1)
        return _detections(by_phrase, outputs.pred_boxes, [(1.0, 1.0)])[0]

    def _spans(self, text: str, phrases: Sequence[str]) -> list[list[int]]:
        """The tokens of each phrase in the text of all."""
        offsets = self._processor.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        spans, start = [], 0
        for phrase in phrases:
            end = start + len(phrase)
            spans.append([i for i, (first, last) in enumerate(offsets) if start <= first < last <= end])
            start = end + len(". ")
        return spans


KINDS: dict[str, type[OwlDetector] | type[GroundingDetector]] = {
    "owlv2": OwlDetector,
    "owlvit": OwlDetector,
    "grounding-dino": GroundingDetector,
    "mm-grounding-dino": GroundingDetector,
}
"""By the `model_type` of their configuration."""


def _sentence(phrases: Sequence[str]) -> str:
    return " ".join(f"{phrase.lower()}." for phrase in phrases)


def _detections(
    log_odds: torch.Tensor, centers: torch.Tensor, edges: Sequence[tuple[float, float]]
) -> list[Detections]:
    """From log-odds `(B, N, P)` and boxes `(B, N, 4)` by center and size, as shares of `edges`."""
    values, boxes = log_odds.float().cpu().numpy(), centers.float().cpu().numpy()
    middle, half = boxes[..., :2], boxes[..., 2:] / 2
    corners = np.concatenate([middle - half, middle + half], axis=-1)
    return [
        Detections(one, box * np.array([*edge, *edge], np.float32))
        for one, box, edge in zip(values, corners, edges, strict=True)
    ]
