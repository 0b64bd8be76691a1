"""The label source `segmentation`: yes where enough of a photo is marked for a phrase of yes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from clip_factory.errors import TeacherError
from clip_factory.label_sources.checkpoint import Checkpoint, find_checkpoint
from clip_factory.label_sources.localization import Answer, LocatingSource, Rule, rivals
from clip_factory.label_sources.pretrained import check_lengths, half_precision, load_network, load_part
from clip_factory.label_sources.source import Phrases
from clip_factory.label_sources.visual_evidence import Mask, VisualEvidence
from clip_factory.scenario import Scenario

DEFAULT = Rule(score=0.5, min_area=0.01)
BATCH_SIZE = 16
PHRASES_AT_ONCE = 32
"""Decoded for one photo in a forward pass."""


class Segmenter:
    """CLIPSeg (Lüddecke and Ecker 2022, arXiv:2112.10003): how likely each pixel belongs to what a phrase names."""

    def __init__(self, checkpoint: Checkpoint, network: Any, processor: Any) -> None:
        self._checkpoint, self._network, self._processor = checkpoint, network, processor
        self.image_size = max(int(side) for side in dict(processor.image_processor.size).values() if side)
        self._most_tokens = int(network.config.text_config.max_position_embeddings)

    def check(self, phrases: Sequence[str]) -> None:
        """Refuse phrases of more tokens than its text encoder has places for.

        Raises:
            ScenarioError: There is such a phrase.
        """
        check_lengths(self._checkpoint, self._processor.tokenizer, phrases, self._most_tokens)

    def segment(self, images: Sequence[Image.Image], phrases: Sequence[str]) -> list[np.ndarray]:
        """For each upright RGB image, the log-odds of P phrases at H x W pixels that span it: float32 `(P, H, W)`."""
        network = self._network
        texts = self._processor(text=list(phrases), padding=True, return_tensors="pt").to(network.device)
        pixels = self._processor(images=list(images), return_tensors="pt")["pixel_values"].to(network.device)
        with torch.inference_mode(), half_precision(network):
            conditions = network.get_conditional_embeddings(batch_size=len(phrases), **texts)
            # the network's own forward would encode each photo anew for every phrase
            states = network.clip.get_image_features(pixel_values=pixels, output_hidden_states=True).hidden_states
            layers = [states[number + 1] for number in network.extract_layers]
            return [self._decoded([layer[i : i + 1] for layer in layers], conditions) for i in range(len(images))]

    def _decoded(self, layers: list[torch.Tensor], conditions: torch.Tensor) -> np.ndarray:
        """Log-odds for one photo, a few phrases at a time."""
        parts = []
        for start in range(0, len(conditions), PHRASES_AT_ONCE):
            some = conditions[start : start + PHRASES_AT_ONCE]
            repeated = tuple(layer.expand(len(some), -1, -1) for layer in layers)
            parts.append(self._network.decoder(repeated, some).logits.float().cpu().numpy())
        return np.concatenate(parts)


def load_segmentation(scenario: Scenario) -> LocatingSource[np.ndarray]:
    """The model that a scenario names: the share of a photo that is marked for phrases of yes decides.

    Raises:
        TeacherError: It cannot be had or loaded, or does not mark what phrases name.
    """
    import transformers

    checkpoint = find_checkpoint(scenario.labels.model)
    kind = load_part(checkpoint, transformers.AutoConfig).model_type
    if kind != "clipseg":
        raise TeacherError(
            f"model {checkpoint.name}: {kind} marks nothing that phrases name, as far as is known here",
            hint="kinds: clipseg; such as hf-hub:CIDAS/clipseg-rd64-refined",
        )
    network = load_network(checkpoint, transformers.CLIPSegForImageSegmentation)
    segmenter = Segmenter(checkpoint, network, load_part(checkpoint, transformers.AutoProcessor))
    return LocatingSource("segmentation", checkpoint, segmenter, segmenter.segment, decide_area, DEFAULT, BATCH_SIZE)


def decide_area(log_odds: np.ndarray, phrases: Phrases, rule: Rule) -> Answer:
    """The answer that the pixels of one photo give.

    A pixel is marked from the rule's score on, where no phrase for no scores higher; the answer is yes if at least
    `min_area` of the photo is. Without phrases for no, the score alone decides, as with detection.

    Yes means that at least `min_area` of the margins are 0 or more. That is: the smallest of the highest `min_area` of
    them is, and this one is the photo's margin.

    Args:
        log_odds: float `(P, H, W)` of the phrases for yes, then those for no.
        phrases: The same, and `NOTHING`.
        rule: When a pixel counts, and how many have to.
    """
    yes, (height, width) = len(phrases.positive), log_odds.shape[1:]
    pixels = log_odds.reshape(len(log_odds), -1).T
    strongest, who = rivals(pixels[:, yes:], rule)
    margins = pixels[:, :yes].max(axis=1) - strongest
    wanted = max(1, math.ceil(rule.min_area * margins.size - 1e-6))
    place = int(np.argpartition(-margins, wanted - 1)[wanted - 1])
    marked = margins >= 0
    return Answer(
        margin=float(margins[place]),
        winner=int(pixels[place, :yes].argmax()),
        rival=int(who[place]),
        evidence=VisualEvidence(mask=_mask(marked, pixels[:, :yes], phrases, (height, width))),
    )


def _mask(marked: np.ndarray, pixels: np.ndarray, phrases: Phrases, shape: tuple[int, int]) -> Mask | None:
    """What is marked, named by the phrase that has the most of it; None where nothing is."""
    if not marked.any():
        return None
    most = int(np.bincount(pixels[marked].argmax(axis=1)).argmax())
    return Mask.of_pixels(phrases.positive[most], marked.reshape(shape))
