"""The label source `vqa`, visual question answering: a model is asked the scenario's question about each photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from clip_factory.images.photo import Photo
from clip_factory.label_sources.answerers import Answerer, load_answerer
from clip_factory.label_sources.checkpoint import Checkpoint, find_checkpoint
from clip_factory.label_sources.pretrained import decoded
from clip_factory.label_sources.source import YES_NO, Scores
from clip_factory.scenario import Scenario


class VisualQuestionAnswering:
    """A `LabelSource`: how likely the model's answer is yes, and how likely no.

    The two are probabilities among all answers that it could give, and do not sum to 1: what is left says how far the
    model answers something else. Only their ratio makes the label.
    """

    batch_size = 16
    """Few: a photo is seconds of work without a GPU, and no more than these are done again after a kill."""

    def __init__(self, checkpoint: Checkpoint, answerer: Answerer) -> None:
        self._checkpoint, self._answerer = checkpoint, answerer

    @property
    def key(self) -> str:
        """The checkpoint's content, and how it is asked."""
        return f"vqa-{self._answerer.version}-{self._checkpoint.key}"

    @property
    def about(self) -> Mapping[str, object]:
        """Name and license of the checkpoint."""
        return self._checkpoint.about

    def question(self, scenario: Scenario) -> Mapping[str, object]:
        """All that it reads of a scenario: other phrases are no reason to ask again."""
        return {"question": scenario.asked}

    def score(self, photos: Sequence[Photo], scenario: Scenario) -> Scores:
        """Yes and no of N photos.

        Raises:
            ImagesError: A file has changed or vanished since it was scanned.
            TeacherError: The model cannot be asked this.
        """
        batches = decoded(photos, self._answerer.image_size)
        answers = [self._answerer.answer(images, scenario.asked) for images in batches]
        return Scores(YES_NO, np.concatenate(answers).astype(np.float32))


def load_vqa(scenario: Scenario) -> VisualQuestionAnswering:
    """The model that a scenario names, on the GPU where there is one.

    Raises:
        TeacherError: It cannot be had or loaded, or is of no kind that answers questions with yes or no.
    """
    checkpoint = find_checkpoint(scenario.labels.model)
    return VisualQuestionAnswering(checkpoint, load_answerer(checkpoint))
