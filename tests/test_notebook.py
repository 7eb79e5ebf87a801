"""The notebook runs from its first cell to its last, and is committed without what it printed."""

from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.made_up import write_tuned

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "sweep.ipynb"


def test_it_holds_no_outputs_and_no_path_of_anyones_machine() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    assert not any(place in NOTEBOOK.read_text() for place in ("/home/", "/Users/", "/root/", "C:\\\\"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_redraws_the_figures_of_any_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP", str(write_tuned(tmp_path / "tuned")))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/svg+xml" in output.get("data", {}) for output in outputs) == 3
    tables = "\n".join(output.get("data", {}).get("text/plain", "") for output in outputs)
    assert "adam" in tables and "0.149" in tables  # the difference between the best of both
