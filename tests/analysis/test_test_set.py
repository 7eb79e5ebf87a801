"""What single test images say, where the truth is known: by simulation, and by counting by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from src.analysis.effects import grid
from src.analysis.page.written import to_markdown
from src.analysis.report import page_of
from src.analysis.table import load_runs, varying_factors
from src.analysis.test_set import (
    churn,
    configurations_on_images,
    load_all_outcomes,
    majority_accuracy,
    spread_over_seeds,
)
from src.runs.outcomes import Outcomes, save_outcomes
from tests.made_up import write_run

IMAGES = 500


def simulate(beyond: float, seeds: int, repetitions: int = 400) -> np.ndarray:
    """Whether each image is right, bool ``[repetitions, seeds, IMAGES]``: images differ in difficulty, runs in their
    accuracy on an infinite test set, of standard deviation ``beyond``."""
    random = np.random.default_rng(1)
    difficulty = random.uniform(0.3, 0.9, (repetitions, 1, IMAGES))
    skill = beyond * random.standard_normal((repetitions, seeds, 1))
    return random.random((repetitions, seeds, IMAGES)) < difficulty + skill


@pytest.mark.parametrize("beyond", [0.0, 0.03])
def test_the_parts_of_the_variance_are_estimated_without_bias(beyond: float) -> None:
    repetitions = simulate(beyond, seeds=4)
    parts = [spread_over_seeds([correct]) for correct in repetitions]
    test_set = np.mean([part.test_set**2 for part in parts if part])
    observed = np.mean([part.observed**2 for part in parts if part])
    assert (observed - test_set) * IMAGES / (IMAGES - 1) == pytest.approx(beyond**2, abs=6e-5)
    difficulty = np.linspace(0.3, 0.9, 100_000)
    expected = (difficulty * (1 - difficulty)).mean() / IMAGES
    assert test_set == pytest.approx(expected - beyond**2 / IMAGES, rel=0.02)


def test_the_interval_contains_the_truth_as_often_as_it_says() -> None:
    parts = [spread_over_seeds([correct]) for correct in simulate(0.03, seeds=8, repetitions=1000)]
    assert 0.93 < np.mean([part.low <= 0.03 <= part.high for part in parts if part]) < 0.97


def test_configurations_are_pooled_by_their_degrees_of_freedom() -> None:
    three, five = simulate(0.05, 3, 1)[0], simulate(0.02, 5, 1)[0]
    pooled, *single = (spread_over_seeds(groups) for groups in ([three, five], [three], [five]))
    assert pooled and single[0] and single[1]
    assert pooled.observed**2 == pytest.approx((2 * single[0].observed ** 2 + 4 * single[1].observed ** 2) / 6)
    assert spread_over_seeds([three[:1]]) is None


def outcomes_of(*predicted: int) -> Outcomes:
    array = np.array(predicted, np.uint8)
    return Outcomes(np.array([0, 0, 1, 1], np.uint8), array, np.full(4, 0.5, np.float32))


def test_the_vote_of_the_seeds() -> None:
    votes = [outcomes_of(0, 1, 1, 0), outcomes_of(0, 1, 2, 0), outcomes_of(1, 0, 1, 1)]
    assert majority_accuracy(votes) == 0.5  # right, wrong, right, wrong
    assert majority_accuracy([outcomes_of(0, 0, 1, 0), outcomes_of(0, 0, 1, 1)]) == 0.875  # the last one is a tie


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Skip fixes the third image in both seeds and breaks the first in one."""
    predictions = {
        (False, 1): (0, 0, 0, 0),
        (True, 1): (0, 0, 1, 0),
        (False, 2): (0, 0, 0, 1),
        (True, 2): (1, 0, 1, 1),
    }
    for (skip, seed), predicted in predictions.items():
        outcomes = outcomes_of(*predicted)
        folder = write_run(tmp_path / "sweep", float(outcomes.correct.mean()), skip=skip, seed=seed)
        save_outcomes(outcomes, folder / "test_outcomes.npz")
    return tmp_path / "sweep"


def test_what_a_factor_fixes_and_breaks(sweep: Path) -> None:
    runs = load_runs(sweep)
    (change,) = churn(runs, ["skip"], grid(runs, ["skip"]).levels, load_all_outcomes(runs))
    assert (change.factor, change.levels, change.pairs) == ("skip", (False, True), 2)
    assert (change.fixed, change.broken, change.agreement) == (2 / 8, 1 / 8, 5 / 8)
    assert change.flips.tolist() == [-1, 0, 2, 0]
    off, on = configurations_on_images(runs, ["skip"], load_all_outcomes(runs)).itertuples()
    assert (off.agreement, on.agreement) == (0.75, 0.5)
    assert (off.vote, off.mean) == (0.625, 0.625)


def test_the_page_says_it(sweep: Path) -> None:
    images = np.zeros((4, 3, 8, 8), np.uint8)
    page = page_of("x", load_runs(sweep), images=lambda folder: images)
    (section,) = (section for section in page.sections if section.title == "What single test images say")
    assert any(drawing.name == "flips-0" for drawing in page.drawings())
    text = to_markdown(page)
    assert "| skip | off → on | 2 | 25.00 | 12.50 | +12.5 | 62.50 |" in text
    assert section.parts[0].startswith("Over seeds, the test accuracy has a standard deviation of 12.50 points")


def test_images_of_a_stranger_may_be_named_by_anything(sweep: Path) -> None:
    for file in sweep.glob("*/results.json"):
        results = json.loads(file.read_text())
        results["settings"]["data.content"] = ["no", {"hash": None}]
        file.write_text(json.dumps(results))
    assert len(load_all_outcomes(load_runs(sweep))) == 4


def test_outcomes_that_contradict_the_result_or_are_of_other_images_are_left_out(sweep: Path) -> None:
    wrong, damaged, other, good = sorted(sweep.iterdir())
    save_outcomes(outcomes_of(1, 1, 0, 0), wrong / "test_outcomes.npz")
    (damaged / "test_outcomes.npz").write_bytes(b"PK")
    runs = load_runs(sweep)
    assert set(load_all_outcomes(runs)) == {other, good}
    assert "2 of 4 runs are left out here" in to_markdown(page_of("x", runs))
    assert varying_factors(runs) == ["skip"]


def test_runs_without_outcomes_have_no_such_section(tmp_path: Path) -> None:
    write_run(tmp_path / "sweep", 0.5, seed=1)
    assert "single test images" not in to_markdown(page_of("x", load_runs(tmp_path / "sweep")))
