"""Learning-rate schedules, against torch's own and at the edges."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.optim import lr_scheduler

from src.training.schedules import Constant, Cosine, OneCycle, Schedule, Step

CONF = Path(__file__).parents[2] / "conf" / "schedule"
NAMES = [file.stem for file in CONF.glob("*.yaml")]
EVERY = [Constant(), Cosine(), Cosine(final=0.1), OneCycle(), OneCycle(rise=0.5), OneCycle(rise=0.99), Step()]


def factors(schedule: Schedule, steps: int, steps_per_epoch: int = 1) -> list[float]:
    """Of every step of a run."""
    return [schedule.factor(step, steps=steps, steps_per_epoch=steps_per_epoch) for step in range(steps)]


def torchs(scheduler: Callable[..., Any], steps: int, lr: float = 1.0, **settings: Any) -> list[float]:
    """Rates of one of torch's schedulers, stepped once per step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = scheduler(optimizer, **settings)
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("name", NAMES)
def test_every_config_builds_the_schedule_it_describes(name: str) -> None:
    conf = OmegaConf.load(CONF / f"{name}.yaml")
    schedule = instantiate(conf)
    assert type(schedule).__name__.lower() == name
    for key, value in conf.items():
        if not key.startswith("_"):
            assert getattr(schedule, key) == value
    assert schedule.on_length


def test_constant_stays() -> None:
    assert factors(Constant(), 5) == [1.0] * 5


@pytest.mark.parametrize("final", [0.0, 0.05])
def test_cosine_is_torchs(final: float) -> None:
    expected = torchs(lr_scheduler.CosineAnnealingLR, 50, T_max=50, eta_min=final)
    assert factors(Cosine(final=final), 50) == pytest.approx(expected, abs=1e-12)
    assert Cosine(final=final).factor(50, steps=50, steps_per_epoch=1) == pytest.approx(final)


@pytest.mark.parametrize("steps", [4, 5, 10, 97])
@pytest.mark.parametrize("rise", [0.3, 0.5])
def test_onecycle_is_torchs(steps: int, rise: float) -> None:
    settings = {"max_lr": 1.0, "div_factor": 25, "final_div_factor": 1e4, "cycle_momentum": False}
    expected = torchs(lr_scheduler.OneCycleLR, steps, total_steps=steps, pct_start=rise, **settings)
    assert factors(OneCycle(rise=rise, start=1 / 25, final=1 / 25 / 1e4), steps) == pytest.approx(expected, abs=1e-9)


def test_onecycles_defaults_are_torchs() -> None:
    expected = torchs(lr_scheduler.OneCycleLR, 20, max_lr=1.0, total_steps=20, cycle_momentum=False)
    assert factors(OneCycle(), 20) == pytest.approx(expected, abs=1e-9)


def test_step_is_torchs() -> None:
    expected = torchs(lr_scheduler.MultiStepLR, 20, milestones=[10, 15], gamma=0.1)
    assert factors(Step(), 20) == pytest.approx(expected)
    assert factors(Step(milestones=[0.25], gamma=0.5), 4) == [1, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 10, 100])
@pytest.mark.parametrize("warmup_epochs", [0, 1, 2.5, 1000])
def test_the_factor_stays_between_0_and_1(schedule: Schedule, steps: int, warmup_epochs: float) -> None:
    schedule = type(schedule)(**(vars(schedule) | {"warmup_epochs": warmup_epochs}))
    for step in range(steps + 2):  # torch asks for one more than there are
        assert 0 <= schedule.factor(step, steps=steps, steps_per_epoch=max(1, steps // 3)) <= 1
    assert schedule.factor(0, steps=steps, steps_per_epoch=1) > 0  # the first step is not wasted


@pytest.mark.parametrize("schedule", [Constant, Cosine, OneCycle, Step])
def test_a_warm_up_rises_linearly_and_the_curve_takes_what_is_left(schedule: type[Schedule]) -> None:
    warmed = factors(schedule(warmup_epochs=2), 30, steps_per_epoch=5)
    assert warmed[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert warmed[10:] == pytest.approx(factors(schedule(), 20))


def test_a_longer_run_stretches_the_curve_and_keeps_the_warm_up() -> None:
    for schedule in (Cosine(), OneCycle(), Step()):
        short, long = factors(schedule, 100), factors(schedule, 1000)
        assert long[::10] == pytest.approx(short, abs=0.05)
    for schedule in (Constant(warmup_epochs=1), Cosine(warmup_epochs=1)):
        assert factors(schedule, 100, 10)[:10] == factors(schedule, 1000, 10)[:10]


@pytest.mark.parametrize(
    ("schedule", "settings", "sentence"),
    [
        (Constant, {"warmup_epochs": -1}, "schedule.warmup_epochs is -1; expected 0 or more."),
        (Constant, {"warmup_epochs": "two"}, "schedule.warmup_epochs is 'two'; expected 0 or more."),
        (Cosine, {"final": 1.5}, "schedule.final is 1.5; expected a number from 0 to 1."),
        (Cosine, {"final": None}, "schedule.final is None; expected a number from 0 to 1."),
        (Cosine, {"warmup_epochs": float("nan")}, "schedule.warmup_epochs is nan; expected 0 or more."),
        (OneCycle, {"rise": 0}, "schedule.rise is 0; expected a fraction of the run between 0 and 1."),
        (OneCycle, {"rise": 1.0}, "schedule.rise is 1.0; expected a fraction of the run between 0 and 1."),
        (OneCycle, {"start": -0.1}, "schedule.start is -0.1; expected a number from 0 to 1."),
        (OneCycle, {"final": 2}, "schedule.final is 2; expected a number from 0 to 1."),
        (Step, {"milestones": [0.5, 80]}, "schedule.milestones holds 80; expected fractions of the run, 0 to 1."),
        (Step, {"milestones": "ab"}, "schedule.milestones holds 'a'; expected fractions of the run, 0 to 1."),
        (Step, {"gamma": 10}, "schedule.gamma is 10; expected a number from 0 to 1."),
    ],
)
def test_a_setting_out_of_range_gets_a_sentence(schedule: type, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        schedule(**settings)
    assert str(error.value) == sentence
