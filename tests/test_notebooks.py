"""Notebooks run as they are, on a run folder and on a sweep, and are committed without what they printed."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.made_up import write_tuned

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def test_a_checkpoint_is_used(finished: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN", str(finished.folder))
    notebook = nbformat.read(NOTEBOOKS / "use_a_checkpoint.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    text = "".join(output.get("text", "") for output in outputs)
    assert "src.models.simplecnn.SimpleCNN, 8 x 8 pixels" in text
    assert f"accuracy {finished.results['metrics']['test/accuracy']:.2%} (95 % interval" in text
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_a_sweep_is_tabulated_and_its_figures_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP", str(write_tuned(tmp_path / "tuned")))
    notebook = nbformat.read(NOTEBOOKS / "sweep.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/svg+xml" in output.get("data", {}) for output in outputs) == 3
    tables = "\n".join(output.get("data", {}).get("text/plain", "") for output in outputs)
    assert "adam" in tables and "0.149" in tables  # the difference between the best of both


@pytest.mark.parametrize("file", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda file: file.stem)
def test_a_notebook_holds_no_outputs_and_no_path_of_anyones_machine(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    places = [*(f"/{folder}/" for folder in ("home", "Users", "root", "tmp")), "C:\\"]
    assert not any(place in file.read_text() for place in places)
