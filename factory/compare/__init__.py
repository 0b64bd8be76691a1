"""Models against what people said: one evaluated, two compared on the same photos.

`verdict` and `intervals` are pure functions of arrays and need numpy alone, so that a registry and the comment on a
pull request say the same line; `folder`, `contenders` and `matches` find photos and probabilities for them.
"""

from factory.compare.intervals import Difference
from factory.compare.verdict import Comparison, compare_answers, compare_counts

__all__ = ["Comparison", "Difference", "compare_answers", "compare_counts"]
