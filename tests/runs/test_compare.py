"""Effects and intervals, on run folders whose truth is known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from src.runs.compare import configurations, interval, load_runs, main_effects, simple_effects, varying_factors


def write_run(sweep: Path, number: int, score: float, status: str = "completed", **factors: Any) -> None:
    folder = sweep / f"run{number}"
    folder.mkdir(parents=True)
    results = {
        "status": status,
        "error": None if status == "completed" else "it broke",
        "seed": factors["seed"],
        "started": f"2026-01-01T00:00:{number:02}",
        "factors": {"model": "net", "train_size": None, **factors},
        "metrics": {"test/accuracy": score, "train/loss": 1.0} if status == "completed" else {},
    }
    (folder / "results.json").write_text(json.dumps(results))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Skip is worth 0.10 without norm and 0.02 with it; norm is worth 0.30 without skip. Seeds add 0.00, 0.01, 0.05."""
    number = 0
    for skip in (False, True):
        for norm in (None, "batch"):
            for seed, luck in ((1, 0.0), (2, 0.01), (3, 0.05)):
                score = 0.2 + 0.3 * (norm == "batch") + (0.02 if norm else 0.10) * skip + luck
                write_run(tmp_path, number, score, skip=skip, norm=norm, seed=seed)
                number += 1
    return tmp_path


def test_the_factors_that_vary_are_found(sweep: Path) -> None:
    assert varying_factors(load_runs(sweep)) == ["skip", "norm"]


def test_a_factor_that_follows_from_another_is_not_one_of_its_own(tmp_path: Path) -> None:
    """Every optimiser has its learning rate; the batch size is swept beside it."""
    rates = {"sgd": 0.1, "adam": 0.001, "adamw": 0.001}
    for number, (optim, size) in enumerate((optim, size) for optim in rates for size in (32, 64)):
        write_run(tmp_path, number, 0.5, optim=optim, lr=rates[optim], batch_size=size, seed=1)
    runs = load_runs(tmp_path)
    assert varying_factors(runs) == ["optim", "batch_size"]
    assert list(simple_effects(runs, ["optim", "batch_size"]).change) == 2 * ["sgd → adam"] + 2 * [
        "sgd → adamw"
    ] + 3 * ["32 → 64"]


def test_configurations_are_summed_up_over_seeds(sweep: Path) -> None:
    table = configurations(load_runs(sweep), ["skip", "norm"])
    first = table.iloc[0]
    scores = [0.2, 0.21, 0.25]
    assert (first.skip, first.norm, first.n) == (False, None, 3)
    assert first["mean"] == pytest.approx(np.mean(scores))
    assert first["std"] == pytest.approx(np.std(scores, ddof=1))
    assert first.interval == pytest.approx(stats.t.interval(0.95, 2, np.mean(scores), stats.sem(scores)))


def test_a_factor_is_compared_with_the_others_held_fixed_and_paired_by_seed(sweep: Path) -> None:
    effects = simple_effects(load_runs(sweep), ["skip", "norm"])
    skip = effects[effects.factor == "skip"]
    assert [row.held for row in skip.itertuples()] == [{"norm": None}, {"norm": "batch"}]
    assert list(skip["mean"]) == pytest.approx([0.10, 0.02])
    # The seeds' luck cancels in pairs, so these intervals have no width.
    assert all(row.interval == pytest.approx((row.mean, row.mean), abs=1e-9) for row in skip.itertuples())


def test_averages_and_interactions(sweep: Path) -> None:
    effects = main_effects(load_runs(sweep), ["skip", "norm"]).set_index("effect")
    assert effects["mean"]["skip"] == pytest.approx((0.10 + 0.02) / 2)
    assert effects["mean"]["norm"] == pytest.approx((0.30 + 0.22) / 2)
    assert effects["mean"]["skip × norm"] == pytest.approx(0.02 - 0.10)
    assert set(effects.n) == {3}


def test_a_seed_with_a_setting_missing_is_left_out_of_averages(sweep: Path) -> None:
    write_run(sweep, 40, 0.9, skip=True, norm="batch", seed=4)
    write_run(sweep, 41, 0.1, skip=False, norm="batch", seed=4)
    runs = load_runs(sweep)
    simple = simple_effects(runs, ["skip", "norm"])
    assert list(simple[simple.factor == "skip"].n) == [3, 4]
    average = main_effects(runs, ["skip", "norm"]).set_index("effect")
    assert average.n["skip"] == 3
    assert average["mean"]["skip"] == pytest.approx(0.06)


def test_one_seed_has_no_interval() -> None:
    assert interval([0.5]) is None


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(0.7, 0.02, size=(2000, 4))
    covered = [low <= 0.7 <= high for low, high in filter(None, map(interval, draws.tolist()))]
    assert 0.935 < np.mean(covered) < 0.965


def test_a_folder_without_runs_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There are no runs in .*: python -m src.report sweep=<name>"):
        load_runs(tmp_path)
