"""The notebook of docs/: ten lines from a folder of photos to predictions, executed."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import nbformat
import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "quickstart.ipynb"
MAX_LINES = 10


def read() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_ten_lines_of_code_and_no_outputs() -> None:
    cells = [cell for cell in read().cells if cell.cell_type == "code"]
    lines = [line for cell in cells for line in cell.source.splitlines() if line.strip()]
    assert len(lines) <= MAX_LINES
    assert [cell.execution_count for cell in cells] == [None] * len(cells)
    assert [output for cell in cells for output in cell.outputs] == []


@pytest.mark.slow
def test_it_goes_from_photos_to_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = read()
    here = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=here).execute()
    shown = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    page = next(output.data["text/html"] for output in shown["run"] if output.output_type == "execute_result")
    assert "Does the photo show: soccer ball?" in page
    assert "data:image/jpeg;base64," in page
    answers = ast.literal_eval(shown["predict"][-1].data["text/plain"])
    assert len(answers) == 3
    for path, label, probability in answers:
        assert os.path.isabs(path) or (tmp_path / path).is_file()
        assert (label, 0 <= probability <= 1) in {("yes", True), ("no", True)}
