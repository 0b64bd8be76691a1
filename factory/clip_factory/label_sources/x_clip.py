"""The label source `x-clip`: whole videos compared with the phrases; every frame of a video has the video's scores.

X-CLIP (Ni et al. 2022, arXiv:2208.02816) looks at a few frames of a video together, so that it can tell what happens
(someone falls, a gate opens) from what a single frame shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoProcessor, XCLIPModel

from clip_factory.errors import ImageError, ImagesError, TeacherError
from clip_factory.images.photo import CHANGED, Photo
from clip_factory.images.videos import Clip, clip_at
from clip_factory.label_sources.checkpoint import Checkpoint, find_checkpoint
from clip_factory.label_sources.pretrained import check_lengths, load_network, load_part
from clip_factory.label_sources.source import Phrases, Scores
from clip_factory.run_folder import sha256_file
from clip_factory.runtime.video_frames import SAMPLING, frames_at
from clip_factory.scenario import Scenario
from clip_factory.scenario.prompts import fill, template_set


class XClip:
    """A `LabelSource`: the softmax over phrases of how close each lies to the photo's video."""

    batch_size = 1000
    """Photos. A video's scores are kept in memory for its other frames, which come in any order."""

    def __init__(self, checkpoint: Checkpoint, network: Any, processor: Any) -> None:
        self._checkpoint, self._network, self._processor = checkpoint, network, processor
        self._known: dict[tuple[str, str], np.ndarray] = {}
        """Scores by hash of the video, and question."""

    @property
    def key(self) -> str:
        """The checkpoint's content, and how frames are chosen."""
        return f"x-clip-{SAMPLING}-{self._checkpoint.key}"

    @property
    def about(self) -> Mapping[str, object]:
        """Name and license of the checkpoint."""
        return self._checkpoint.about

    def score(self, photos: Sequence[Photo], scenario: Scenario) -> Scores:
        """Scores of N photos by phrase: those of the video that each is a frame of.

        Raises:
            ImagesError: A photo is no frame of a video, or its video has changed or vanished since it was sampled.
            ScenarioError: A phrase is longer than the model reads.
        """
        phrases = Phrases.of(scenario)
        templates = scenario.templates
        named = template_set(templates) if isinstance(templates, str) else templates
        prompts = [prompt for phrase in phrases.all for prompt in fill(named, phrase)]
        tokens = self._tokens(prompts)
        rows = [self._of_clip(_clip(photo), prompts, tokens, len(phrases.all)) for photo in photos]
        return Scores(phrases, np.stack(rows))

    def _of_clip(self, clip: Clip, prompts: Sequence[str], tokens: Any, count: int) -> np.ndarray:
        """Probability of each of `count` phrases, float32 `(P,)`; a phrase's prompts are averaged."""
        key = clip.sha256, "\n".join(prompts)
        if key not in self._known:
            pixels = self._processor(images=self._frames(clip), return_tensors="pt")["pixel_values"]
            pixels = pixels.reshape(1, -1, *pixels.shape[-3:])
            with torch.inference_mode():
                logits = self._network(pixel_values=pixels.to(self._network.device), **tokens).logits_per_video
            by_phrase = logits.float().reshape(count, -1).mean(dim=1)
            self._known[key] = by_phrase.softmax(dim=0).cpu().numpy()
        return self._known[key]

    def _frames(self, clip: Clip) -> list[Image.Image]:
        """As many frames as the model looks at, from the middles of as many equal parts of the video."""
        count = self._network.config.vision_config.num_frames
        times = [int((2 * i + 1) * 500 * clip.seconds / count) for i in range(count)]
        try:
            if sha256_file(clip.file) != clip.sha256:
                raise ImagesError(f"{clip.file}: it has changed since its frames were sampled", hint=CHANGED)
            images = [sample.image for sample in frames_at(clip.file, times)]
        except (ImageError, OSError) as error:
            reason = error.what if isinstance(error, ImageError) else f"{clip.file}: {error.strerror or error}"
            raise ImagesError(f"{reason}: it could be read when its frames were sampled", hint=CHANGED) from None
        return images + [images[-1]] * (count - len(images))

    def _tokens(self, prompts: Sequence[str]) -> Any:
        tokenizer, limit = self._processor.tokenizer, self._network.config.text_config.max_position_embeddings
        check_lengths(self._checkpoint, tokenizer, prompts, limit)
        tokens = tokenizer(list(prompts), padding=True, return_tensors="pt")
        return {name: tokens[name].to(self._network.device) for name in ("input_ids", "attention_mask")}


def load_x_clip(scenario: Scenario) -> XClip:
    """The model that a scenario names, on the GPU where there is one.

    Raises:
        TeacherError: It cannot be had or loaded, or is no X-CLIP.
    """
    checkpoint = find_checkpoint(scenario.labels.model)
    kind = load_part(checkpoint, AutoConfig).model_type
    if kind != "xclip":
        raise TeacherError(
            f"model {checkpoint.name}: {kind} is no X-CLIP",
            hint="name an X-CLIP, such as hf-hub:microsoft/xclip-base-patch32, or a folder of one: local-dir:PATH",
        )
    return XClip(checkpoint, load_network(checkpoint, XCLIPModel), load_part(checkpoint, AutoProcessor))


def _clip(photo: Photo) -> Clip:
    clip = clip_at(photo.path)
    if clip is None:
        raise ImagesError(
            f"{photo.path}: a photo, not a frame of a video, and labels.source x-clip compares videos",
            hint="name a folder that holds videos alone, or take labels: {source: zero-shot}",
        )
    return clip
