"""Multiruns that are not the full grid."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from src.sweeps.design import one_at_a_time
from src.sweeps.jobs import jobs

Launch = Callable[..., Any]


def test_k_keys_of_two_values_are_k_plus_one_arms_and_further_values_an_arm_each() -> None:
    values = {"skip": ["true", "false"], "aug": ["strong", "basic", "none"], "lr": ["0.1"]}
    arms = [[level for (level,) in arm.values()] for arm in one_at_a_time(values, 0)]
    assert arms == [
        ["true", "strong", "0.1"],
        ["false", "strong", "0.1"],
        ["true", "basic", "0.1"],
        ["true", "none", "0.1"],
    ]
    assert one_at_a_time(values, -1)[0] == {"skip": ["false"], "aug": ["none"], "lr": ["0.1"]}


def test_a_design_is_launched_in_one_command_and_shares_folders_with_the_grid(train: Launch, tmp_path: Path) -> None:
    common = ("--multirun", "sweep=s", "trainer.max_epochs=1", "logger=none", "model.norm=batch,none", "aug=basic,none")
    run = train(*common, "design=leave_one_out", "seed=1")
    assert run.code == 0 and "3 of 3 jobs completed." in run.out
    assert "design" not in "".join(job.name for job in jobs(tmp_path / "logs/train/sweeps/s"))
    wider = train(*common, "seed=1")
    assert wider.code == 0 and "4 of 4 jobs completed." in wider.out
    assert wider.out.count("completed before") == 3
