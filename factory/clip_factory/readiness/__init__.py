"""Before training: can this teacher know this?"""

from clip_factory.readiness.assess import BARS, Readiness, assess, refusal

__all__ = ["BARS", "Readiness", "assess", "refusal"]
