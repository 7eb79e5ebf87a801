"""Learning-rate schedules: pure functions of the step and of the run's length.

They are stepped once per optimiser step and keep no state, so a run that is resumed with another length simply
follows the curve of that length from then on. ``on_length`` says what that means for each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar


def _cosine_between(start: float, end: float, progress: float) -> float:
    """From ``start`` at progress 0 to ``end`` at progress 1 along half a cosine wave."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A curve that multiplies the learning rate, after an optional linear warm-up.

    Args:
        warmup_epochs: 0 or more epochs over which the rate rises linearly to its full value; they keep their
            length whatever the run's, and the curve takes what is left.

    Raises:
        ValueError: a setting is out of its range.
    """

    warmup_epochs: float = 0
    on_length: ClassVar[str]

    def __post_init__(self) -> None:
        if self.warmup_epochs < 0:
            raise ValueError(f"schedule.warmup_epochs is {self.warmup_epochs}; expected 0 or more.")

    def curve(self, step: int, steps: int) -> float:
        """The factor at ``step``, 0 to ``steps``, of a run of ``steps`` steps without warm-up."""
        raise NotImplementedError

    def factor(self, step: int, *, steps: int, steps_per_epoch: int) -> float:
        """The factor on the learning rate.

        Args:
            step: optimiser steps taken so far, from 0.
            steps: optimiser steps of the whole run.
            steps_per_epoch: optimiser steps of an epoch, by which the warm-up is counted.
        """
        warmup = round(self.warmup_epochs * steps_per_epoch)
        if step < warmup:
            return (step + 1) / warmup
        return self.curve(min(step, steps) - warmup, max(steps - warmup, 1))


class Constant(Schedule):
    """The learning rate stays."""

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

    def curve(self, step: int, steps: int) -> float:
        return _cosine_between(1.0, self.final, step / steps)


@dataclass(frozen=True, kw_only=True)
class OneCycle(Schedule):
    """Up, then down, each along half a cosine wave (Smith & Topin 2018; the rates of ``torch.optim``'s OneCycleLR).

    Args:
        rise: fraction of the run spent rising, above 0 and below 1.
        start: the factor at the first step.
        final: the factor at the last step.
    """

    rise: float = 0.3
    start: float = 0.04
    final: float = 4e-6
    on_length = "a longer run stretches both phases"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.rise < 1:
            raise ValueError(f"schedule.rise is {self.rise}; expected a fraction of the run between 0 and 1.")

    def curve(self, step: int, steps: int) -> float:
        peak, last = self.rise * steps - 1, steps - 1
        if step <= peak:
            return _cosine_between(self.start, 1.0, step / peak)
        if last <= peak:  # a run of one or two steps has no way down
            return 1.0
        return _cosine_between(1.0, self.final, min((step - peak) / (last - peak), 1.0))


@dataclass(frozen=True, kw_only=True)
class Step(Schedule):
    """A staircase.

    Args:
        milestones: fractions of the run, 0 to 1, at which the rate drops.
        gamma: by what it is multiplied there.
    """

    milestones: Sequence[float] = field(default=(0.5, 0.75))
    gamma: float = 0.1
    on_length = "the milestones are fractions of the run, so a longer run moves them along"

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(not 0 <= milestone <= 1 for milestone in self.milestones):
            raise ValueError(f"schedule.milestones is {list(self.milestones)}; expected fractions of the run, 0 to 1.")

    def curve(self, step: int, steps: int) -> float:
        return self.gamma ** sum(step >= milestone * steps for milestone in self.milestones)
