"""The gate: a written rule that a student must pass on images it never saw, and the evidence for it."""

from factory.gate.judge import judge

__all__ = ["judge"]
