"""What figures decide; how they look is for eyes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.analysis.effects import configurations
from src.analysis.figures import draw_accuracy, draw_cost, draw_learning, label, pareto_front
from src.analysis.page.page import Drawing
from src.analysis.table import load_runs
from tests.made_up import write_run, write_tuned


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


def test_a_configuration_looks_the_same_in_every_figure(tmp_path: Path) -> None:
    for optim, score in (("sgd", 0.5), ("adam", 0.7), ("adamw", 0.6)):
        write_run(tmp_path, score, optim=optim, seed=1)
    runs = load_runs(tmp_path)
    figures = draw_cost(configurations(runs, ["optim"]), ["optim"]), draw_learning(runs, ["optim"])
    looks = []
    for figure in figures:
        handles = [handle for ax in figure.axes for handle in ax.get_legend_handles_labels()[0]]
        looks.append({str(h.get_label()).split()[-1]: (h.get_color(), h.get_marker()) for h in handles})
    assert looks[0] == looks[1] and len(looks[0]) == 3


def test_long_names_are_not_cut_off(tmp_path: Path) -> None:
    names = ["a very long name of a choice " * 3, "another that is as long as the first one " * 2]
    for name in names:
        write_run(tmp_path, 0.5, optim=name, seed=1)
    drawn = Drawing("accuracy", draw_accuracy(configurations(load_runs(tmp_path), ["optim"]), ["optim"], 0.1), "")
    drawn.save(tmp_path)
    with Image.open(tmp_path / "accuracy.png") as image:
        pixels = np.asarray(image.convert("L"))
    assert (pixels[:, 0] > 250).all() and (pixels[:, -1] > 250).all() and pixels.min() < 100


def test_a_configuration_in_words() -> None:
    assert label({"skip": True, "lr": 3e-4, "norm": None}, ["skip", "lr", "norm"]) == "skip on, lr 0.0003, norm None"
    assert label({}, []) == "all runs"
