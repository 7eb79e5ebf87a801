"""Learning-rate schedules: pure functions of the step and of the run's length.

They are stepped once per optimiser step and keep no state, so a run that is resumed with another length
follows the curve of that length from then on. ``on_length`` says what this means for each schedule.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar


def _cosine_between(start: float, end: float, progress: float) -> float:
    """From ``start`` at progress 0 to ``end`` at progress 1 along half a cosine wave."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _check_between_0_and_1(name: str, value: Any) -> None:
    if not (isinstance(value, int | float) and 0 <= value <= 1):
        raise ValueError(f"schedule.{name} is {value!r}; expected a number from 0 to 1.")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A curve that multiplies the learning rate, after an optional linear warm-up.

    Args:
        warmup_epochs: 0 or more epochs over which the rate rises linearly to its full value. Their number does
            not depend on the run's length; the curve covers the other epochs.

    Raises:
        ValueError: a setting is out of its range.
    """

    warmup_epochs: float = 0
    on_length: ClassVar[str] = "a longer run may follow another curve"

    def __post_init__(self) -> None:
        epochs = self.warmup_epochs
        if not (isinstance(epochs, int | float) and 0 <= epochs < math.inf):
            raise ValueError(f"schedule.warmup_epochs is {epochs!r}; expected 0 or more.")

    def curve(self, step: int, steps: int) -> float:
        """The factor at ``step``, 0 to ``steps``, of a run of ``steps`` steps without warm-up."""
        raise NotImplementedError

    def factor(self, step: int, *, steps: int, steps_per_epoch: int) -> float:
        """The factor on the learning rate.

        Args:
            step: optimiser steps taken so far, from 0.
            steps: optimiser steps of the whole run.
            steps_per_epoch: optimiser steps of an epoch; the unit of the warm-up.
        """
        warmup = round(self.warmup_epochs * steps_per_epoch)
        if step < warmup:
            return (step + 1) / warmup
        return self.curve(min(step, steps) - warmup, max(steps - warmup, 1))


class Constant(Schedule):
    """A constant learning rate."""

    on_length = "a longer run goes on at the same rate"

    def curve(self, step: int, steps: int) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Half a cosine wave (Loshchilov & Hutter 2017, without restarts).

    Args:
        final: the factor at the end, 0 to 1.
    """

    final: float = 0.0
    on_length = "a longer run stretches the curve"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_between_0_and_1("final", self.final)

    def curve(self, step: int, steps: int) -> float:
        return _cosine_between(1.0, self.final, step / steps)


@dataclass(frozen=True, kw_only=True)
class OneCycle(Schedule):
    """Up, then down, each along half a cosine wave (Smith & Topin 2018; same rates as ``torch.optim``'s OneCycleLR).

    Args:
        rise: fraction of the run spent rising, above 0 and below 1.
        start: the factor at the first step, 0 to 1.
        final: the factor at the last step, 0 to 1.
    """

    rise: float = 0.3
    start: float = 0.04
    final: float = 4e-6
    on_length = "a longer run stretches both phases"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (isinstance(self.rise, int | float) and 0 < self.rise < 1):
            raise ValueError(f"schedule.rise is {self.rise!r}; expected a fraction of the run between 0 and 1.")
        _check_between_0_and_1("start", self.start)
        _check_between_0_and_1("final", self.final)

    def curve(self, step: int, steps: int) -> float:
        peak, last = self.rise * steps - 1, steps - 1
        if step <= peak and peak > 0:  # a run of a few steps has no rise
            return _cosine_between(self.start, 1.0, step / peak)
        return _cosine_between(1.0, self.final, min((step - peak) / (last - peak), 1.0))


@dataclass(frozen=True, kw_only=True)
class Step(Schedule):
    """A step function.

    Args:
        milestones: fractions of the run, 0 to 1, at which the rate drops.
        gamma: the factor at each milestone, 0 to 1.
    """

    milestones: Sequence[float] = field(default=(0.5, 0.75))
    gamma: float = 0.1
    on_length = "the milestones are fractions of the run, so a longer run moves them along"

    def __post_init__(self) -> None:
        super().__post_init__()
        for milestone in self.milestones:
            if not (isinstance(milestone, int | float) and 0 <= milestone <= 1):
                raise ValueError(f"schedule.milestones holds {milestone!r}; expected fractions of the run, 0 to 1.")
        _check_between_0_and_1("gamma", self.gamma)

    def curve(self, step: int, steps: int) -> float:
        return self.gamma ** sum(step >= milestone * steps for milestone in self.milestones)
