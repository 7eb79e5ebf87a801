"""What a report says about a search: made-up trials, whose truth is known."""

import json
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import src.report
from src.analysis.page.contents import page_of
from src.analysis.page.page import Table
from src.analysis.search import arms_of, best_of_arms, expected_best
from src.analysis.table import load_runs
from tests.conftest import launch
from tests.made_up import write_run


def write_trial(sweep: Path, score: float, number: int | None, **run: Any) -> None:
    file = write_run(sweep, score, **run) / "results.json"
    overrides = [f"optim={run['optim']}", f"optim.lr={run['lr']}"]
    overrides += [f"tuner.trial={number}"] if number is not None else [f"seed={run['seed']}"]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"overrides": overrides}))


def write_search(sweep: Path) -> Path:
    """Three trials of SGD, of which the second is best by validation and worst by test; one of Adam; one pruned."""
    trials = (("sgd", 0.1, 0.5, 0.9), ("sgd", 0.02, 0.8, 0.6), ("sgd", 0.3, 0.4, 0.8), ("adam", 0.01, 0.7, 0.7))
    for number, (optim, lr, validation, test) in enumerate(trials):
        curve = (0.1, validation)
        write_trial(sweep, test, number, validation=validation, curve=curve, optim=optim, lr=lr, seed=1)
    write_trial(sweep, 0.6, None, validation=0.8, curve=(0.1, 0.8), optim="sgd", lr=0.02, seed=2)
    pruned = {"status": "pruned", "error": "pruned at epoch 2 of 3"}
    write_trial(sweep, 0.0, 4, curve=(0.2, 0.3), optim="adam", lr=0.5, seed=1, **pruned)
    return sweep


def test_each_arm_is_shown_at_its_best_trial_by_validation(tmp_path: Path) -> None:
    everything = load_runs(write_search(tmp_path))
    completed = everything[everything.status == "completed"]
    assert arms_of(completed) == ["optim"]
    best = best_of_arms(completed, ["optim"])
    assert [(run.optim, run.lr, run.seed) for run in best.itertuples()] == [
        ("sgd", 0.02, 1),
        ("adam", 0.01, 1),
        ("sgd", 0.02, 2),
    ]
    page = page_of("s", everything)
    (section,) = (section for section in page.sections if section.title == "The search")
    (table,) = (part for part in section.parts if isinstance(part, Table))
    rows = [dict(zip(table.columns, (cell.text for cell in row), strict=True)) for row in table.rows]
    assert [(row["optim"], row["trials"], row["completed"], row["pruned"]) for row in rows] == [
        ("sgd", "3", "3", "0"),
        ("adam", "2", "1", "1"),
    ]
    assert [(row["best of 1, %"], row["of all, %"]) for row in rows] == [("56.67", "80.00"), ("50.00", "70.00")]
    assert "of 5, %" not in table.columns  # no arm has so many


def test_a_pruned_trial_does_not_make_a_sweep_incomplete(tmp_path: Path) -> None:
    page = page_of("s", load_runs(write_search(tmp_path)))
    assert not any("incomplete" in caveat for caveat in page.caveats)
    (jobs,) = (section for section in page.sections if section.title == "Jobs")
    (table,) = (part for part in jobs.parts if isinstance(part, Table))
    assert [cell.text for cell in table.rows[0]][2:] == ["pruned", "–", "pruned at epoch 2 of 3"]


def test_the_expected_best_is_the_mean_over_all_subsets() -> None:
    scores = [0.3, 0.9, 0.1, 0.5, 0.5]
    every = [mean(max(some) for some in combinations(scores, n)) for n in range(1, 6)]
    assert expected_best(scores).tolist() == pytest.approx(every)
    assert expected_best([]).tolist() == []


@pytest.mark.slow
def test_its_figures_are_in_tensorboard_too_once(tmp_path: Path) -> None:
    write_search(tmp_path / "logs/train/sweeps/s")
    for _ in range(2):
        done = launch(src.report.main, tmp_path, "sweep=s")
        assert done.code == 0, done.err
    (file,) = tmp_path.rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file)).Reload()
    assert events.Tags()["images"] == ["search/budget"] and len(events.Images("search/budget")) == 1
