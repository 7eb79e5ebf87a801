"""Notebooks run as they are, on a run folder and on a sweep, and are committed without what they printed; those of the
studies with it, and it is what their runs say."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.made_up import write_tuned

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
STUDIES = sorted((NOTEBOOKS / "studies").glob("*.ipynb"))
PLACES = (*(f"/{folder}/" for folder in ("home", "Users", "root", "tmp")), "C:\\")  # of anyone's machine


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
    assert not any(place in file.read_text() for place in PLACES)


@pytest.mark.parametrize(
    "file",
    [pytest.param(file, marks=pytest.mark.slow if place else (), id=file.stem) for place, file in enumerate(STUDIES)],
)
def test_a_study_prints_what_its_runs_say(file: Path) -> None:
    kept = nbformat.read(file, as_version=4)
    nbformat.validate(kept)
    again = nbformat.read(file, as_version=4)
    NotebookClient(again, timeout=120, resources={"metadata": {"path": str(file.parent)}}).execute()
    shown = [
        [output.get("data", {}).get("text/plain") for cell in notebook.cells for output in cell.get("outputs", ())]
        for notebook in (kept, again)
    ]
    assert shown[0] == shown[1] and len(shown[0]) >= 4


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_a_study_is_small_and_holds_figures(file: Path) -> None:
    assert file.stat().st_size < 1e6 and file.with_suffix("").is_dir()
    text = file.read_text()
    assert "image/png" in text and not any(place in text for place in PLACES)


def test_all_studies_together_take_at_most_6_mb() -> None:
    kept = [file for file in (NOTEBOOKS / "studies").rglob("*") if file.is_file() and file not in STUDIES]
    assert sum(file.stat().st_size for file in kept) <= 6e6
