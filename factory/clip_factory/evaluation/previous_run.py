"""What a run changed against the run before it, in one line: what people's answers in between were worth."""

from __future__ import annotations

from clip_factory.errors import FactoryError
from clip_factory.evaluation.candidates import find_candidates
from clip_factory.evaluation.joint_evaluation import evaluate_runs
from clip_factory.run_folder import RunFolder
from clip_factory.runtime import Model


def compare_with_previous(run: RunFolder) -> str | None:
    """The finished run of the same name that began before this one against this one, on the same photos.

    None where there is none before it, or where nothing can be compared: no test photo has an answer, which the gate
    says already, or the photos are others.
    """
    earlier = [other for path in run.path.parent.glob("[!.]*/") if (other := RunFolder(path)).finished]
    before = [other for other in earlier if (other.begun, other.path.name) < (run.begun, run.path.name)]
    if not before:
        return None
    previous = max(before, key=lambda other: (other.begun, other.path.name))
    try:
        joint = evaluate_runs(find_candidates([previous.path, run.path], Model.load))
    except FactoryError:
        return None
    if not joint.sample.by_people:
        return None
    comparison = joint.comparisons[0]
    ranking = f"; AUC {comparison.auc.first:.3f} before, {comparison.auc.second:.3f} now" if comparison.auc else ""
    return (
        f"since {previous.path.name}: {joint.line(comparison)}{ranking}, on the same {len(joint.sample.files)} photos"
    )
