"""Before training: can this teacher know this?"""

from factory.readiness.weigh import BARS, Readiness, assess, refusal

__all__ = ["BARS", "Readiness", "assess", "refusal"]
