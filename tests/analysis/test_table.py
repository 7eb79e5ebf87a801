"""From run folders to a table: what is in it, and what varies."""

from pathlib import Path

import pytest

from src.analysis.table import confounders, load_curves, load_runs, varying_factors
from tests.made_up import write_grid, write_run


def test_the_factors_that_vary_are_found(tmp_path: Path) -> None:
    assert varying_factors(load_runs(write_grid(tmp_path))) == ["skip", "norm"]


def test_a_factor_that_follows_from_another_is_not_one_of_its_own(tmp_path: Path) -> None:
    """Every optimiser has its learning rate; the batch size is swept beside it."""
    rates = {"sgd": 0.1, "adam": 0.001, "adamw": 0.001}
    for optim in rates:
        for size in (32, 64):
            write_run(tmp_path, 0.5, optim=optim, lr=rates[optim], batch_size=size, seed=1)
    runs = load_runs(tmp_path)
    assert varying_factors(runs) == ["optim", "batch_size"]
    assert confounders(runs, "optim") == ["lr"] and confounders(runs, "batch_size") == []


def test_whatever_varies_is_a_factor(tmp_path: Path) -> None:
    for momentum in (0.9, 0.95):
        for lr in (0.1, 0.2):
            write_run(tmp_path, 0.5, optim="sgd", lr=lr, momentum=momentum, eps=1e-8, seed=1)
    runs = load_runs(tmp_path)
    assert varying_factors(runs) == ["lr", "momentum"]
    assert list(runs.momentum) == [0.9, 0.9, 0.95, 0.95] and "eps" not in runs


def test_several_sweeps_make_one_table(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0.5, aug="none", seed=1)
    write_run(tmp_path / "b", 0.6, aug="basic", seed=1)
    runs = load_runs(tmp_path / "a", tmp_path / "b")
    assert list(runs.sweep) == ["a", "b"] and list(runs["test/accuracy"]) == [0.5, 0.6]
    assert varying_factors(runs) == ["aug"]


def test_curves_are_told_apart_by_run(tmp_path: Path) -> None:
    write_run(tmp_path, 0.5, lr=0.1, seed=1, curve=[0.2, 0.5])
    write_run(tmp_path, 0.6, lr=None, seed=2, curve=[0.3, 0.6])
    curves = load_curves(load_runs(tmp_path), ["lr"])
    assert list(curves["val/accuracy"]) == [0.2, 0.5, 0.3, 0.6] and list(curves.seconds) == [2, 4, 2, 4]
    assert list(curves.lr) == [0.1, 0.1, None, None] and list(curves.seed) == [1, 1, 2, 2]


def test_a_folder_without_runs_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There are no runs in .*: python -m src.report sweep=NAME"):
        load_runs(tmp_path)


def test_what_only_one_arm_has_is_a_confounder_unless_it_is_part_of_the_choice(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run(tmp_path, 0.5, optim="sgd", momentum=0.9, seed=seed)
        write_run(tmp_path, 0.9, optim="adam", seed=seed, **{"trainer.overfit_batches": 1})
    assert confounders(load_runs(tmp_path), "optim") == ["overfit_batches"]


def test_switches_in_step_are_told_though_their_levels_read_alike(tmp_path: Path) -> None:
    for switch in (True, False):
        write_run(tmp_path, 0.5, skip=switch, seed=1, **{"optim.nesterov": switch})
    runs = load_runs(tmp_path)
    assert {name: confounders(runs, name) for name in ("skip", "nesterov")} == {
        "skip": ["nesterov"],
        "nesterov": ["skip"],
    }


def test_a_setting_may_be_called_like_a_computed_column(tmp_path: Path) -> None:
    for mean in (1, 2):
        write_run(tmp_path, 0.5, seed=1, **{"data.mean": mean})
    assert varying_factors(load_runs(tmp_path)) == ["data.mean"]


def test_the_transforms_of_an_augmentation_are_the_choice_itself(tmp_path: Path) -> None:
    for aug, transforms in (("none", []), ("basic", [{"_target_": "crop"}])):
        write_run(tmp_path, 0.5, aug=aug, seed=1, **{"aug.transforms": transforms, "aug.strength": len(transforms)})
    assert confounders(load_runs(tmp_path), "aug") == ["strength"]
