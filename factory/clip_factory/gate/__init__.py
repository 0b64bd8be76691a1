"""The gate: a written rule that a student must pass on images it never saw, and the evidence for it."""
