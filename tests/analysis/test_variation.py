"""Sources of variation, apart and together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.analysis.page.contents import page_of
from src.analysis.table import load_runs, varying_factors
from src.analysis.variation import as_repetitions, never_varied, ratio_interval, shares
from tests.made_up import write_run

SPLIT = {"data.val_size": 0.1}


def write_sources(sweep: Path, init: float, seed: float, arms: tuple[str, ...] = ("sgd",)) -> Path:
    """Four runs in which all varies but the split, with deviations of ``seed``, and three more of ``init``."""
    for optim in arms:
        for number, deviation in ((1, 0), (2, -seed), (3, seed), (4, 0)):
            write_run(sweep, 0.5 + deviation, seed=number, optim=optim, **SPLIT, **{"data.split_seed": 0})
        for number, deviation in ((2, -init), (3, init), (4, 0)):
            own = {"seeds.init": number, "data.split_seed": 0}
            write_run(sweep, 0.5 + deviation, seed=1, optim=optim, **SPLIT, **own)
    return sweep


def test_a_source_that_varied_alone_has_its_share_of_the_variance(tmp_path: Path) -> None:
    (row,) = shares(load_runs(write_sources(tmp_path, init=0.01, seed=0.02))).to_dict("records")
    assert (row["source"], row["n"], row["of"]) == ("initial weights", 4, "all sources but the split")
    assert row["sd"] == pytest.approx(np.std([0, -0.01, 0.01, 0], ddof=1)) and row["share"] == pytest.approx(0.25)
    assert row["low"] < 0.25 / 5 and row["high"] > 0.25 * 5  # three degrees of freedom each


def test_its_runs_repeat_the_experiment_of_their_seed_but_are_not_compared(tmp_path: Path) -> None:
    everything = load_runs(write_sources(tmp_path, init=0.01, seed=0.02, arms=("sgd", "adam")))
    runs = as_repetitions(everything)
    assert varying_factors(runs) == ["optim"] and runs.seed.tolist() == [1, 2, 3, 4] * 2
    page = page_of("sources", everything)
    assert [section.title for section in page.sections].count("Where the spread comes from") == 1
    (alone,) = [finding.text for finding in page.findings if "alone:" in finding.text]
    assert alone.startswith("Initial weights alone: standard deviation 0.82 points, 25% of the variance of all sources")
    assert any(text.startswith("Never varied: split.") for text in page.caveats)


def test_where_one_source_is_all_that_varies_arms_are_paired_by_it(tmp_path: Path) -> None:
    for optim in ("sgd", "adam"):
        for number in (1, 2, 3):
            own: dict[str, Any] = {"seeds.init": number, "data.split_seed": 0}
            write_run(tmp_path, 0.5 + number / 100 + 0.1 * (optim == "adam"), seed=1, optim=optim, **own, **SPLIT)
    everything = load_runs(tmp_path)
    page = page_of("init", everything)
    assert any("adam" in finding.text and "n = 3 seeds" in finding.text for finding in page.findings)
    (row,) = shares(everything).to_dict("records")
    assert row["n"] == 6 and np.isnan(row["share"])
    assert "order of the images, augmentation, split" in "".join(never_varied(as_repetitions(everything)))


def test_a_split_that_follows_the_seed_has_varied(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write_run(tmp_path, 0.5, seed=seed, **SPLIT, **{"data.split_seed": None})
    assert never_varied(load_runs(tmp_path)) == []


def test_intervals_of_shares_cover_the_truth_as_often_as_they_say() -> None:
    """Five runs of one source and five of all, the first one common to both, as a user would launch them."""
    rng = np.random.default_rng(0)
    others, own = rng.normal(0, np.sqrt(0.7), (10_000, 5)), rng.normal(0, np.sqrt(0.3), (10_000, 9))
    everything, alone = others + own[:, :5], others[:, :1] + own[:, [0, 5, 6, 7, 8]]
    low, high = ratio_interval(alone.var(1, ddof=1) / everything.var(1, ddof=1), 4, 4)
    assert 0.94 < np.mean((low < 0.3) & (high > 0.3)) < 0.97


def test_what_is_no_seed_is_only_shown(tmp_path: Path) -> None:
    for init in ([], {"a": 1}, 1):
        write_run(tmp_path, 0.5, seed=1, **{"seeds.init": init})
    assert set(as_repetitions(load_runs(tmp_path)).seed) == {
        "seed 1, init []",
        "seed 1, init {'a': 1}",
        "seed 1, init 1",
    }
