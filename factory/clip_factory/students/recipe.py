"""The training recipe: every number in one place. docs/student.md shows what each part is worth."""

from __future__ import annotations

from dataclasses import dataclass, field

from clip_factory.students.augmentation import Augmentation


@dataclass(frozen=True)
class Recipe:
    """How a student is trained."""

    image_size: int = 128
    """Side of the student's input, pixels, where the scenario says `auto`."""
    small_share: float = 0.7
    """Share of the training during which batches are 3/4 of that size (progressive resizing); the rest is full."""
    oversize: float = 1.25
    """Side of the decoded training photos over the student's: crops of larger photos stay sharp."""
    batch_size: int = 32
    members: int = 2
    """Trainings from the same backbone, each with its own seed, whose weights are averaged in the end (model soup,
    Wortsman et al. 2022)."""
    folds: int = 5
    """Folds of the training photos; each member leaves another one out, for which its answers are then held out."""
    steps: int = 220
    """Optimizer steps of a member that `epochs: auto` aims at, within `min_epochs` and `max_epochs`."""
    min_epochs: int = 6
    max_epochs: int = 40
    rate: float = 1.5e-3
    """Peak learning rate of AdamW (Loshchilov and Hutter 2019) under one cycle (Smith and Topin 2018)."""
    head_rate: float = 5e-3
    """The same for the fresh linear layers."""
    weight_decay: float = 0.02
    temperature: float = 1.0
    """Teacher probabilities p become sigmoid(logit(p) / temperature) (Hinton et al. 2015)."""
    smoothing: float = 0.02
    """Gold labels become 1 - smoothing and smoothing."""
    teacher_share: float = 0.5
    """Share of the teacher's word in the target of a gold label, times the square of its skill on such labels."""
    gold_weight: float = 2.0
    """Weight of a gold label against the teacher's 1."""
    certainty: float = 0.0
    """Power of the teacher's certainty, |2p - 1|, as a weight of its label. 0: a doubtful label weighs as much as a
    sure one, for the doubt is in the target already; weighed down as well, the photos near the line teach nothing."""
    balance: float = 1.0
    """0: every image counts alike; 1: yes and no have the same total weight; between: a power of that."""
    vector_weight: float = 0.5
    """Weight of the auxiliary loss that regresses the teacher's image vectors; 0 drops it."""
    frozen: float = 1.0
    """Share of the modules that the backbone can spare which stay as pretrained: no gradient, no batch statistics."""
    dropout: float = 0.1
    augmentation: Augmentation = field(default_factory=Augmentation)

    def epochs(self, images: int) -> int:
        """Passes over `images` training images."""
        batches = max(1, round(images / self.batch_size))
        return min(self.max_epochs, max(self.min_epochs, round(self.steps / batches)))
