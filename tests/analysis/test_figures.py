"""What figures decide; how they look is for eyes."""

import numpy as np
import pytest

from src.analysis.figures import label, pareto_front


@pytest.mark.parametrize(
    ("costs", "scores", "front"),
    [
        ([1, 2, 3], [0.5, 0.6, 0.7], [0, 1, 2]),
        ([1, 2, 3], [0.5, 0.4, 0.7], [0, 2]),
        ([2, 1, 1], [0.5, 0.5, 0.4], [1]),  # cheaper and as good; as cheap and better
    ],
)
def test_the_pareto_front_is_what_nothing_beats(costs: list[float], scores: list[float], front: list[int]) -> None:
    assert pareto_front(np.array(costs), np.array(scores)) == front


def test_a_configuration_in_words() -> None:
    assert label({"skip": True, "lr": 3e-4, "norm": None}, ["skip", "lr", "norm"]) == "skip on, lr 0.0003, norm None"
    assert label({}, []) == "all runs"
