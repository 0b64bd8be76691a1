"""A run as Python and notebooks see it: labels, gate, report and model of one pass of a scenario through the stages."""

from __future__ import annotations

import os
import webbrowser
from dataclasses import dataclass
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from clip_factory import run_folder as files
from clip_factory.errors import FactoryError
from clip_factory.run_folder import RUNS, RunFolder, find_run

if TYPE_CHECKING:  # a run is named before anything that takes its time is imported
    from clip_factory.gate.gate_result import GateResult
    from clip_factory.labels import Labels
    from clip_factory.runtime import Model
    from clip_factory.scenario import Scenario


@dataclass(frozen=True)
class ReportPage:
    """report.html of a run; shown in a notebook, and a path everywhere else."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def open(self) -> None:
        """Open the page in the browser."""
        webbrowser.open(self.path.resolve().as_uri())

    def _repr_html_(self) -> str:
        return f'<iframe src="{escape(os.path.relpath(self.path))}" width="100%" height="640"></iframe>'


@dataclass(frozen=True, repr=False)
class Run:
    """One pass of a scenario through the stages, as far as it has come.

    Example:
        >>> run = load_run("latest")
        >>> run.labels.to_pandas()
        >>> run.gate.verdict.headline
        >>> run.model.predict("photos/")
    """

    path: Path
    """The run folder."""

    @property
    def folder(self) -> RunFolder:
        """The files of the run."""
        return RunFolder(self.path)

    @property
    def scenario(self) -> Scenario:
        """The scenario with every default written out, and the teacher that `auto` chose."""
        from clip_factory.scenario import load

        return load(self.folder.file(files.SCENARIO))

    @property
    def labels(self) -> Labels:
        """The labels, a row a photo; `.to_pandas()` and `.to_arrow()` convert them.

        Raises:
            RunError: The photos are not labeled yet.
        """
        from clip_factory.labels import Labels

        return Labels.of_run(self.folder)

    @property
    def gate(self) -> GateResult:
        """The verdict on the model, its clauses and figures.

        Raises:
            RunError: The model has not been evaluated yet.
        """
        from clip_factory.gate.gate_result import GateResult

        return GateResult.of_run(self.folder)

    @property
    def report(self) -> ReportPage:
        """The report, one page with everything inside.

        Raises:
            RunError: It is not written yet.
        """
        return ReportPage(self.folder.need(files.REPORT, "report"))

    @property
    def model(self) -> Model:
        """The exported model, ready to predict.

        Raises:
            RunError: It is not exported yet.
        """
        from clip_factory.runtime import Model

        return Model.load(self.folder.need(files.MODEL, "export"))

    @property
    def change(self) -> str | None:
        """This run against the finished one of its name before it, in a line; None where nothing can be compared."""
        from clip_factory.evaluation.previous_run import compare_with_previous

        return compare_with_previous(self.folder)

    @property
    def finished(self) -> bool:
        """Whether the run has come through all stages."""
        return self.folder.finished

    @property
    def state(self) -> str:
        """The verdict where there is one, else how far the run has come: `exported`, `trained`, `labeled`, `begun`."""
        try:
            return self.gate.state
        except FactoryError:
            reached = {files.MODEL: "exported", files.STUDENT: "trained", files.LABELS: "labeled"}
            return next((word for name, word in reached.items() if self.folder.file(name).is_file()), "begun")

    def __repr__(self) -> str:
        return f"<Run {self.path}: {self.state}>"

    def _repr_html_(self) -> str:
        from clip_factory.report.notebook_view import run_html

        try:
            return run_html(self.folder, self.state)
        except FactoryError as error:  # what is shown at the end of a cell must not end the notebook
            return f"{escape(repr(self))}<br>{escape(str(error))}"


def load_run(run: str | PathLike[str] | Run, runs: str | PathLike[str] = RUNS) -> Run:
    """A run that is there.

    Args:
        run: Its folder, a folder of runs for the newest finished one in it, or `latest`.
        runs: The folder that the bare word `latest` looks through.

    Raises:
        RunError: There is no such run.

    Example:
        >>> load_run("runs/forklift").gate.state
    """
    return run if isinstance(run, Run) else Run(find_run(Path(run), Path(runs)).path)
