"""Effects and intervals, on run folders whose truth is known."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from src.analysis.effects import (
    chosen_runs,
    configurations,
    grid,
    guessing_of,
    interactions,
    main_effects,
    settings_of,
    simple_effects,
    trials,
    without_repetitions,
)
from src.analysis.page.contents import page_of
from src.analysis.page.written import to_markdown
from src.analysis.table import load_runs, varying_factors
from tests.made_up import write_grid, write_run, write_tuned

FACTORS = ["skip", "norm"]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_grid(tmp_path)


def test_configurations_are_summed_up_over_seeds(sweep: Path) -> None:
    table = configurations(load_runs(sweep), FACTORS)
    first = table.iloc[0]
    scores = [0.2, 0.21, 0.25]
    assert (first.skip, first.norm, first.n) == (False, None, 3)
    assert first["mean"] == pytest.approx(np.mean(scores))
    assert first["std"] == pytest.approx(np.std(scores, ddof=1))
    assert (first.low, first.high) == pytest.approx(stats.t.interval(0.95, 2, np.mean(scores), stats.sem(scores)))
    assert (first.parameters, first.seconds, first.images_per_second) == (1000, 6, 100)


def test_a_factor_is_compared_with_the_others_held_fixed_and_paired_by_seed(sweep: Path) -> None:
    effects = simple_effects(grid(load_runs(sweep), FACTORS))
    skip = effects[effects.factor == "skip"]
    assert [row.held for row in skip.itertuples()] == [{"norm": None}, {"norm": "batch"}]
    assert list(skip.difference) == pytest.approx([0.10, 0.02])
    # The seeds' luck cancels in pairs, so these intervals have no width.
    assert all((row.low, row.high) == pytest.approx((row.difference,) * 2, abs=1e-9) for row in skip.itertuples())


def test_averages_and_interactions(sweep: Path) -> None:
    cells = grid(load_runs(sweep), FACTORS)
    effects = main_effects(cells).set_index("factor")
    assert effects.difference["skip"] == pytest.approx((0.10 + 0.02) / 2)
    assert effects.difference["norm"] == pytest.approx((0.30 + 0.22) / 2)
    assert (effects.lowest["skip"], effects.highest["skip"]) == pytest.approx((0.02, 0.10))
    assert set(effects.n) == {3} and set(effects.averaged) == set(effects.possible) == {2}
    (crossed,) = interactions(cells).itertuples()
    assert (crossed.first, crossed.second, crossed.n) == ("skip", "norm", 3)
    assert crossed.difference == pytest.approx(0.02 - 0.10)


def test_a_seed_with_a_setting_missing_is_left_out_of_averages(sweep: Path) -> None:
    write_run(sweep, 0.9, skip=True, norm="batch", seed=4)
    write_run(sweep, 0.1, skip=False, norm="batch", seed=4)
    cells = grid(load_runs(sweep), FACTORS)
    simple = simple_effects(cells)
    assert list(simple[simple.factor == "skip"].n) == [3, 4]
    average = main_effects(cells).set_index("factor")
    assert average.n["skip"] == 3 and average.difference["skip"] == pytest.approx(0.06)


def test_a_setting_no_seed_has_is_left_out_and_counted(tmp_path: Path) -> None:
    """Adam never completed without norm, so the optimisers are compared with it alone."""
    for seed in (1, 2):
        for optim, norm, score in (("sgd", "none", 0.2), ("sgd", "batch", 0.5), ("adam", "batch", 0.6)):
            write_run(tmp_path, score, optim=optim, norm=norm, seed=seed)
    effects = main_effects(grid(load_runs(tmp_path), ["optim", "norm"])).set_index("factor")
    assert effects.difference["optim"] == pytest.approx(0.1)
    assert (effects.averaged["optim"], effects.possible["optim"], effects.n["optim"]) == (1, 2, 2)


def test_where_no_seed_has_all_settings_nothing_is_averaged(tmp_path: Path) -> None:
    for seed, norm in ((1, "none"), (2, "batch")):
        for optim in ("sgd", "adam"):
            write_run(tmp_path, 0.5, optim=optim, norm=norm, seed=seed)
    cells = grid(load_runs(tmp_path), ["optim", "norm"])
    effects = main_effects(cells).set_index("factor")
    assert set(effects.n) == {0} and effects.difference.isna().all() and interactions(cells).empty
    assert list(simple_effects(cells).n) == [1, 1]


def test_the_baseline_can_be_chosen(sweep: Path) -> None:
    runs = load_runs(sweep)
    effects = main_effects(grid(runs, FACTORS, {"norm": "batch", "unknown": 1})).set_index("factor")
    assert (effects.baseline["norm"], effects.level["norm"]) == ("batch", None)
    assert effects.difference["norm"] == pytest.approx(-0.26)
    with pytest.raises(ValueError, match=r"baseline.norm is 'layer'; the levels of norm are None, batch"):
        grid(runs, FACTORS, {"norm": "layer"})


def test_an_experiment_counts_once(sweep: Path) -> None:
    write_run(sweep, 0.9, skip=True, norm="batch", seed=1)
    runs = load_runs(sweep)
    assert grid(runs, FACTORS).left_out == [runs.folder.iloc[-1]]
    assert len(without_repetitions(runs)) == 12


def test_every_optimizer_gets_its_rate_by_validation_and_is_judged_by_test(tmp_path: Path) -> None:
    runs = load_runs(write_tuned(tmp_path))
    factors = varying_factors(runs)
    tried = trials(runs, factors, "lr")
    assert list(tried.optim) == 3 * ["sgd"] + 3 * ["adam"] and list(tried.n) == 6 * [3]
    chosen = tried[tried.chosen == True].set_index("optim")  # noqa: E712
    assert chosen.lr.to_dict() == {"sgd": 0.1, "adam": 1e-2}  # Adam's 1e-4 has the best test accuracy
    assert chosen.at_edge.to_dict() == {"sgd": False, "adam": True}
    kept = chosen_runs(runs, tried, factors)
    (effect,) = main_effects(grid(kept, ["optim"])).itertuples()
    assert (effect.baseline, effect.level, effect.n) == ("sgd", "adam", 3)
    assert effect.difference == pytest.approx(0.73 - 0.58 + np.mean([0, 0.012, -0.009]) * (1 - 1.5))


@pytest.mark.parametrize(
    ("score", "rate", "words"),
    [("val/f1", 0.1, "highest mean val/f1"), ("-val/loss", 0.01, "lowest mean validation loss"),
     ("val/accuracy", 1.0, "highest mean validation accuracy")],
)  # fmt: skip
def test_a_rate_is_chosen_by_the_runs_own_score(tmp_path: Path, score: str, rate: float, words: str) -> None:
    for lr, f1, loss, accuracy in ((0.01, 0.3, 1.0, 0.5), (0.1, 0.4, 2.0, 0.6), (1.0, 0.2, 3.0, 0.7)):
        for seed in (1, 2):
            more = {"val/f1": f1, "val/loss": loss}
            write_run(tmp_path, 0.5, validation=accuracy, more=more, score_=score, optim="sgd", lr=lr, seed=seed)
    runs = load_runs(tmp_path)
    tried = trials(runs, ["lr"], "lr")
    assert tried[tried.chosen.astype(bool)].lr.tolist() == [rate]
    page = to_markdown(page_of("a", runs, tune="lr"))
    assert f"chosen by the {words} over seeds" in page
    assert f"the epoch of {words.replace('mean ', '')}, or" in page


def test_by_several_scores_nothing_is_chosen(tmp_path: Path) -> None:
    for score in ("val/accuracy", "-val/loss"):
        write_run(tmp_path, 0.5, validation=0.5, score_=score, lr=0.1, seed=1)
    with pytest.raises(
        ValueError, match=r"lr cannot be chosen: some runs have the score val/accuracy, others val/loss"
    ):
        trials(load_runs(tmp_path), ["lr", "score"], "lr")


def test_a_rate_that_failed_for_a_seed_is_not_chosen(tmp_path: Path) -> None:
    for lr, scores in ((0.1, [0.5, 0.5]), (1.0, [0.9])):
        for seed, score in enumerate(scores):
            write_run(tmp_path, score, validation=score, optim="sgd", lr=lr, seed=seed)
    tried = trials(load_runs(tmp_path), ["lr"], "lr")
    assert list(tried.n) == [2, 1] and list(tried.chosen) == [True, False]


def test_nothing_is_chosen_by_the_test_set(sweep: Path) -> None:
    with pytest.raises(ValueError, match=r"skip cannot be chosen: some runs have no validation accuracy"):
        trials(load_runs(sweep), FACTORS, "skip")


def test_the_seeds_that_would_decide_are_whole_numbers_beside_a_decided_effect(tmp_path: Path) -> None:
    for large in (False, True):
        for small in (False, True):
            for seed, luck in ((1, 0.0), (2, 0.02), (3, -0.01)):
                score = 0.4 + 0.3 * large + (0.01 + luck) * small
                write_run(tmp_path / "s", score + 0.001 * large * seed, skip=large, norm=small, seed=seed)
    needed = main_effects(grid(load_runs(tmp_path / "s"), ["skip", "norm"])).needed.tolist()
    assert needed[0] is None and isinstance(needed[1], int)


def test_settings_of_one_run_are_no_names_of_columns() -> None:
    one = pd.DataFrame({"": [[1, 2]], "optim": ["sgd"], "'sgd'": [[3]]}, dtype=object)
    for factors in ([], ["optim"]):
        ((levels, group),) = settings_of(one, factors)
        assert list(levels) == factors and len(group) == 1


def test_what_guessing_exceeds_only_by_luck_follows_from_the_images_of_the_metric(tmp_path: Path) -> None:
    file = write_run(tmp_path, 0.45, validation=0.45, seed=1, optim="sgd") / "results.json"
    results = json.loads(file.read_text()) | {"images": {"train": 9, "val": 100, "test": 10_000}}
    file.write_text(json.dumps(results))
    runs = load_runs(tmp_path)
    assert guessing_of(runs) == [pytest.approx(0.1 + 2 * 0.3 / 100)]  # of ten classes
    assert guessing_of(runs, "val/accuracy") == [pytest.approx(0.1 + 2 * 0.3 / 10)]
    file.write_text(json.dumps(results | {"classes": []}))
    assert guessing_of(load_runs(tmp_path)) == [0]  # unknown: not "at chance" at 45 %
