"""Models against what people said: one evaluated, two compared on the same photos.

`verdict` and `intervals` are pure functions of arrays and need numpy alone, so that a registry and the comment on a
pull request say the same line; `folder`, `contenders` and `matches` find photos and probabilities for them.
"""

from clip_factory.evaluation.better import Comparison, compare_answers, compare_counts
from clip_factory.evaluation.difference_intervals import Difference

__all__ = ["Comparison", "Difference", "compare_answers", "compare_counts"]
