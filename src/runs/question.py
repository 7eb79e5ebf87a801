"""What runs are to find out, as stated before they start: ``question``, ``primary`` and ``smallest_effect``."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from src.runs.escaping import printable
from src.runs.identity import plain_value


class Question(NamedTuple):
    question: str = ""  # one sentence
    factor: str | None = None  # of the primary comparison; None if there is none
    levels: tuple[Any, ...] = ()  # the baseline, and those that are compared with it; empty for all
    metric: str = "test/accuracy"
    smallest_effect: float | None = None  # a smaller difference of the metric does not matter; 0 to 1


def question_of(config: Mapping[str, Any]) -> Question:
    """The question of a run.

    Args:
        config: plain values; the keys may be missing.

    Raises:
        ValueError: a value is not of its kind.
    """
    text, primary = config.get("question") or "", config.get("primary") or {}
    if not isinstance(text, str) or not isinstance(primary, Mapping):
        raise ValueError(f"question is {text!r} and primary is {primary!r}; expected a sentence and a mapping.")
    factor, levels = primary.get("factor"), primary.get("levels") or []
    metric = primary.get("metric") or Question().metric
    if not isinstance(factor, str | None) or set(primary) - {"factor", "levels", "metric"}:
        raise ValueError(f"primary is {dict(primary)!r}; expected factor, a name such as optim, levels and metric.")
    if not isinstance(levels, list) or len(levels) == 1:
        raise ValueError(f"primary.levels is {levels!r}; expected two levels or more, the baseline first, or null.")
    if metric not in ("test/accuracy", "val/accuracy"):
        raise ValueError(f"primary.metric is {metric!r}; expected test/accuracy or val/accuracy.")
    smallest = smallest_effect(config.get("smallest_effect"))
    return Question(printable(" ".join(text.split())), factor, tuple(map(plain_value, levels)), metric, smallest)


def restated(asked: Question, config: Mapping[str, Any]) -> Question:
    """``asked`` with what ``config`` states instead; question and levels of another factor are not kept.

    Args:
        config: as for ``question_of``; what is None or missing stays as it was.

    Raises:
        ValueError: a value is not of its kind.
    """
    stated, primary = question_of(config), config.get("primary") or {}
    given = {name: config.get(name) for name in ("question", "smallest_effect")} | dict(primary)
    names = {name for name, value in given.items() if value is not None}
    if "factor" in names and stated.factor != asked.factor:
        names |= {"levels", "question"}
    return asked._replace(**{name: getattr(stated, name) for name in names})


def smallest_effect(points: Any) -> float | None:
    """Percentage points as a fraction; None for none.

    Raises:
        ValueError: it is no number above 0, up to 100.
    """
    if points is None:
        return None
    if isinstance(points, bool) or not isinstance(points, int | float) or not 0 < points <= 100:
        raise ValueError(f"smallest_effect is {points!r}; expected percentage points above 0, up to 100, such as 0.5.")
    return points / 100


def hardly_learned(classes: int) -> float:
    """The accuracy, 0 to 1, a tenth of the way from chance to certainty: a network below it has hardly learned."""
    return 1 / classes + 0.1 * (1 - 1 / classes)


def guessing(classes: int, images: float) -> float:
    """The accuracy, 0 to 1, that guessing exceeds only by luck: that of chance, and two binomial standard deviations.

    Args:
        classes: 0 if unknown; then every network is taken to have learned, and the result is 0.
        images: whose accuracy it is; 0 or NaN if unknown, which leaves luck out.
    """
    if not classes:
        return 0.0
    chance = 1 / classes
    return chance + (2 * math.sqrt(chance * (1 - chance) / images) if images > 0 else 1e-9)
