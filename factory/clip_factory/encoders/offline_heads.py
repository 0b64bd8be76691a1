"""The two heads of the offline teacher: pooled tower features in, one shared 384-d space out.

The towers stay locked (LiT, Zhai et al. 2022, arXiv:2111.07991). What the image head learns is a correction to an
anchor that needs no image-text pairs at all: the mean of the ImageNet class names' text vectors, weighted by the
class probabilities that the image tower gives (ConSE, Norouzi et al. 2014, arXiv:1312.5650). Classes that crowd
together in text space count less there: ImageNet has 120 breeds of dog and five of cat. Near the 1,000 classes the
anchor holds; away from them, where it knows nothing, the correction takes over.
"""

from torch import Tensor, nn, softmax, zeros
from torch.nn.functional import normalize

FEATURES, CLASSES, WORDS, HIDDEN = 1280, 1000, 384, 768
SHARPNESS = 0.5
"""Factor on the class logits: below 1 more classes speak for an image, which helps with what is no ImageNet class."""


class ImageHead(nn.Module):
    """Image features (N, 1280) of the locked tower -> image vectors (N, 384), of any length."""

    prototypes: Tensor
    handicap: Tensor

    def __init__(self, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.classifier = nn.Linear(FEATURES, CLASSES)  # the tower's own ImageNet layer, never trained here
        self.register_buffer("prototypes", zeros(CLASSES, WORDS))  # centered unit text vectors, one a class
        self.register_buffer("handicap", zeros(CLASSES))  # taken off the class logits: large where classes crowd
        self.anchor = nn.Linear(WORDS, WORDS, bias=False)
        self.correction = nn.Sequential(
            nn.Dropout(0.2), nn.Linear(FEATURES, hidden), nn.GELU(), nn.Dropout(0.2), nn.Linear(hidden, WORDS)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, 1280) pooled features -> (N, 384)."""
        classes = softmax(self.classifier(features) * SHARPNESS - self.handicap, dim=-1)
        words = normalize(classes @ self.prototypes, dim=-1)
        return self.anchor(words) + self.correction(features)  # type: ignore[no-any-return]


class TextHead(nn.Module):
    """Mean-pooled text features (N, 384) of the locked tower -> text vectors (N, 384), of any length."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", zeros(WORDS))  # mean vector of the ImageNet class names
        self.project = nn.Linear(WORDS, WORDS, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, 384) pooled features -> (N, 384)."""
        return self.project(self.centered(features))  # type: ignore[no-any-return]

    def centered(self, features: Tensor) -> Tensor:
        """(N, 384) -> unit vectors without the part that all names of things share, which only blurs the angles."""
        return normalize(normalize(features, dim=-1) - self.mean, dim=-1)
