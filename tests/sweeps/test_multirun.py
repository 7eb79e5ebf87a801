"""The table at the end of a multirun, whatever its jobs left behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from src.sweeps.multirun import SweepSummary


def test_a_job_that_left_no_proper_results_counts_as_not_completed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    completed = {"status": "completed", "error": None, "seed": 1, "metrics": {"test/accuracy": 0.5}}
    for name, content in (("seed=1", json.dumps(completed)), ("seed=2", "{"), ("seed=3", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(content)
    with pytest.raises(SystemExit) as stopped:
        SweepSummary().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    assert stopped.value.code == 1
    told = capsys.readouterr().out
    assert "1 of 3 jobs completed." in told and "50.00%" in told and "damaged" in told


@pytest.mark.parametrize("sweep", ["null", "", ".", "..", "../../mine", "a,b", "range(1,3)", "[a]"])
def test_a_sweep_is_one_folder_of_a_name(train: Callable[..., Any], tmp_path: Path, sweep: str) -> None:
    run = train("--multirun", f"sweep={sweep}", "seed=1,2")
    problem = "expected the name of one folder, which logs/train/sweeps is to have; or leave it out."
    assert run.code == 1 and run.err == f"sweep={sweep}: {problem}\n" and not list(tmp_path.iterdir())
