"""The price of a multirun, told before it starts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import src.tune
from src.analysis.page.contents import page_of
from src.analysis.page.written import to_markdown
from src.analysis.table import load_runs
from tests.conftest import TINY, launch

Launch = Callable[..., Any]
SMALL = ("sweep=s", "trainer.max_epochs=1", "logger=none", "callbacks=none")


def test_a_plan_counts_what_is_left_and_leaves_its_estimate_behind(train: Launch, tmp_path: Path) -> None:
    grid = ("--multirun", *SMALL, "aug=none,basic", "seed=1,2")
    plan = train(*grid, "plan=true")
    assert plan.code == 0, plan.err
    assert "4 jobs to do, 0 done before:" in plan.out and "Its report will tell how long they took." in plan.out
    kinds = [line.split("│")[1:3] for line in plan.out.splitlines() if "│ aug=" in line]
    assert [[cell.strip() for cell in kind] for kind in kinds] == [["aug=none", "2"], ["aug=basic", "2"]]
    estimate = tmp_path / "logs/train/sweeps/s/plan.json"
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == {estimate, estimate.parent / ".sweep.json.lock"}
    assert len(json.loads(estimate.read_text())["seconds"]) == 4
    assert train("--multirun", *SMALL, "aug=none", "seed=1").code == 0
    (log,) = estimate.parent.glob("*/train.log")
    assert "schedule Cosine over " in log.read_text()  # a plan silences no run after it
    kept = sorted(tmp_path.rglob("*"))
    assert "3 jobs to do, 1 done before:" in train(*grid, "plan=true").out and sorted(tmp_path.rglob("*")) == kept
    runs = load_runs(estimate.parent)
    (expected,), (took,) = (runs[runs.status == "completed"][name] for name in ("planned", "seconds"))
    text = to_markdown(page_of("s", runs))
    assert f"plan=true expected {expected:,.1f} s of training for 1 completed job; they took {took:,.1f} s (" in text


def test_a_plan_without_a_name_leaves_nothing_behind(train: Launch, tmp_path: Path) -> None:
    plan = train("--multirun", *SMALL[1:], "seed=1,2", "plan=true")
    assert plan.code == 0 and "Nothing was recorded." in plan.out and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_search_is_planned_too(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    search = (*TINY, *SMALL, "optim=sgd,adamw", "optim.lr=log(1e-3,1)", "trials=2", "best=1", "seeds=2")
    plan = launch(src.tune.main, tmp_path, *search, "plan=true")
    assert plan.code == 0 and "3 jobs to do, 0 done before:" in plan.out
    assert launch(src.tune.main, tmp_path, *search).code == 0
    runs = load_runs(tmp_path / "logs/train/sweeps/s")
    assert len(runs) == 3 and runs.planned.nunique() == 1 and runs.planned.iloc[0] > 0
    assert "s of training for 3 completed jobs" in to_markdown(page_of("s", runs))


def test_one_run_is_not_planned(train: Launch) -> None:
    run = train("plan=true")
    assert run.code == 1 and run.err == "plan=true plans a multirun: add --multirun.\n"


def test_steps_of_many_batches_are_planned(train: Launch) -> None:
    run = train("--multirun", "plan=true", "seed=1,2", "data.batch_size=10", "trainer.accumulate_grad_batches=16")
    assert run.code == 0 and "2 jobs to do" in run.out, run.err
