"""Notebooks run as they are, on a run folder."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

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
