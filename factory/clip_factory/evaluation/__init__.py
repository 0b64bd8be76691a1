"""Models against what people said: one evaluated, two compared on the same photos.

`model_comparison` and `difference_intervals` are pure functions of arrays and need numpy alone, so that a registry and
the comment on a pull request say the same line; `labeled_folder`, `candidates` and `shared_test_photos` find photos and
probabilities for `measure` (one model) and `joint_evaluation` (several).
"""

from clip_factory.evaluation.difference_intervals import Difference
from clip_factory.evaluation.model_comparison import Comparison, compare_answers, compare_counts

__all__ = ["Comparison", "Difference", "compare_answers", "compare_counts"]
