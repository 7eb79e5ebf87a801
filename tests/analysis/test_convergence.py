"""When accuracies are reached, on curves whose truth is known."""

from pathlib import Path

import pytest

from src.analysis.convergence import convergence
from src.analysis.table import load_runs
from tests.made_up import write_grid, write_run


def test_targets_are_reached_by_all_seeds_or_have_no_average(tmp_path: Path) -> None:
    write_run(tmp_path, 0.8, aug="none", seed=1, curve=[0.3, 0.6, 0.8])
    write_run(tmp_path, 0.7, aug="none", seed=2, curve=[0.2, 0.3, 0.4])
    write_run(tmp_path, 0.1, aug="basic", seed=1, curve=[0.1, 0.1, 0.1])
    table = convergence(load_runs(tmp_path), ["aug"], [0.9, 0.5, 0.3])
    assert list(table.aug) == ["none", "basic"]
    assert list(table.reached) == [{0.3: 2, 0.5: 1}, {0.3: 0, 0.5: 0}]
    assert list(table.times[0][0.3]) == [1.5, 15, 3] and 0.5 not in table.times[0]
    # By the trapezoidal rule, over two epochs: (0.3 / 2 + 0.6 + 0.8 / 2) / 2 and (0.2 / 2 + 0.3 + 0.4 / 2) / 2
    assert list(table.area) == pytest.approx([(0.575 + 0.3) / 2, 0.1])


def test_without_validation_there_is_nothing_to_reach(tmp_path: Path) -> None:
    assert convergence(load_runs(write_grid(tmp_path)), ["skip", "norm"], [0.5]).empty
