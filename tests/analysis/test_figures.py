"""What figures decide; how they look is for eyes."""

from pathlib import Path

import numpy as np
import pytest

from src.analysis.effects import configurations
from src.analysis.figures import draw_cost, label, pareto_front
from src.analysis.table import load_runs
from tests.made_up import write_tuned


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


def test_seconds_are_shown_with_their_span_and_without_a_front(tmp_path: Path) -> None:
    figure = draw_cost(configurations(load_runs(write_tuned(tmp_path)), ["optim", "lr"]), ["optim", "lr"])
    (ax,) = figure.axes  # operations are the same for all
    assert len(ax.lines) == 7 and len(ax.collections[0].get_segments()) == 6  # points and spans, no front
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[0] == "adam, 0.0001" and len(set(names)) == 6 and not ax.texts


def test_a_configuration_in_words() -> None:
    assert label({"skip": True, "lr": 3e-4, "norm": None}, ["skip", "lr", "norm"]) == "skip on, lr 0.0003, norm None"
    assert label({}, []) == "all runs"
