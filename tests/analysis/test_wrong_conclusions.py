"""Sweeps of which a report once said what is not so."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.analysis.effects import grid, main_effects, simple_effects, trials
from src.analysis.page.contents import page_of
from src.analysis.page.page import Page
from src.analysis.statistics import seeds_needed
from src.analysis.table import load_runs, varying_factors
from src.runs.errors import DIVERGED
from src.runs.identity import ABSENT
from tests.made_up import grid_of, write_run

SEEDS = (1, 2, 3, 4, 5)
LUCK = dict(zip(SEEDS, (0.0, 0.003, -0.002, 0.004, -0.003), strict=True))
ASKED = {"primary": {"factor": "aug", "levels": ["none", "basic"]}, "smallest_effect": 1}


def write(sweep: Path, score: float, seeds: Sequence[int] = SEEDS, **settings: Any) -> None:
    for seed in seeds:
        own = 1e-4 * (seed == round(10 * score))  # so that no difference is without spread
        write_run(sweep, score + LUCK[seed] * (2 + round(100 * score) % 7) / 10 + own, seed=seed, **settings)


def report(*sweeps: Path, **settings: Any) -> Page:
    return page_of("made up", load_runs(*sweeps), **settings)


def test_under_seeds_added_all_comparisons_count_for_equivalence() -> None:
    rng = np.random.default_rng(3)
    scores = 0.5 + rng.normal(0, 0.002, (11, 20)) + np.array([0, 0.001, *[0.02] * 9])[:, None]
    table = grid_of({"aug": list("abcdefghijk")}, [*range(20)], scores)._replace(at_every_look=True)
    effects = main_effects(table, 0.01)
    assert (effects.p_equivalence[1:] == 1).all() and effects.p_equivalence[0] < 0.005
    assert effects.p_equivalence_holm[0] == pytest.approx(10 * effects.p_equivalence[0])
    assert list(effects.verdict) == ["equivalent", *["differs"] * 9]


def test_effects_that_cancel_are_not_told_as_none(tmp_path: Path) -> None:
    for model, sign in (("a", 1), ("b", -1)):
        for aug in ("none", "basic"):
            write(tmp_path, 0.6 + 0.05 * sign * (aug == "basic"), model=model, aug=aug, asked=ASKED)
    (answer,) = report(tmp_path).answers
    assert answer.kind == "equivalent" and "But not everywhere: from -5.0 to +5.0" in answer.text


def test_settings_at_chance_are_told_in_the_sentence_that_averages_over_them(tmp_path: Path) -> None:
    for norm, reached in (("none", 0.1), ("batch", 0.6)):
        for aug in ("none", "basic"):
            gain = 0.05 * (aug == "basic" and norm == "batch")
            write(tmp_path, reached + gain, **{"model.norm": norm}, aug=aug, asked=ASKED)
    (answer,) = report(tmp_path).answers
    assert answer.kind == "differs" and answer.text.endswith(
        "In 1 of these settings both stayed at chance, which pulls the average to zero."
    )


def test_each_data_set_has_its_own_chance(tmp_path: Path) -> None:
    for data, classes, reached in (("ten", 10, 0.5), ("hundred", 100, 0.08)):
        for aug in ("none", "basic"):
            write(tmp_path, reached + 0.02 * (aug == "basic"), data=data, aug=aug)
        for file in tmp_path.glob("*/results.json"):
            results = json.loads(file.read_text())
            if results["choices"]["data"] == data:
                file.write_text(json.dumps(results | {"classes": [str(number) for number in range(classes)]}))
    runs = load_runs(tmp_path)
    effects = simple_effects(grid(runs, ["data", "aug"]))
    assert set(effects.verdict[effects.factor == "aug"]) == {"differs"}
    assert any(
        caveat.startswith("Hardly above chance, 1.0%: data hundred, aug none") for caveat in report(tmp_path).caveats
    )


def test_more_seeds_are_needed_where_each_was_looked_at() -> None:
    differences = np.array([0.01, 0.03, -0.005, 0.02, 0.0])
    fixed, looked_at = (seeds_needed(differences, at_every_look=look) for look in (False, True))
    assert fixed is not None and looked_at is not None and 1.2 * fixed < looked_at < 4 * fixed


def test_a_baseline_of_no_factor_is_refused(tmp_path: Path) -> None:
    for width in (0.5, 1):
        write(tmp_path, 0.5 + width / 10, **{"model.width": width})
    with pytest.raises(ValueError, match=r"^baseline\.widht: there is no factor widht; did you mean width\?$"):
        report(tmp_path, baselines={"widht": 0.5})
    asked = {"primary": {"factor": "width", "levels": [0.5, 1.0]}}  # 1.0 in a command, 1 in the record
    (answer,) = report(tmp_path, asked=asked).answers
    assert answer.text.startswith("width 1 differs from 0.5")


def test_runs_without_a_factor_count_once(tmp_path: Path) -> None:
    for aug in ("none", "basic"):
        write(tmp_path, 0.5 + 0.1 * (aug == "basic"), model="simple", aug=aug)
        for skip in (True, False):
            write(tmp_path, 0.7, model="residual", aug=aug, **{"model.skip": skip})
    runs = load_runs(tmp_path)
    cells = grid(runs, varying_factors(runs))
    alone = simple_effects(cells)
    held = [of for of in alone[alone.factor == "aug"].held if of["model"] == "simple"]
    assert held == [{"model": "simple", "skip": ABSENT}] and (alone.factor == "aug").sum() == 3
    (effect,) = main_effects(cells, only="aug").itertuples()
    assert (effect.averaged, effect.possible) == (3, 3) and effect.difference == pytest.approx(0.1 / 3, abs=1e-4)
    (effect,) = main_effects(cells, only="model").itertuples()
    assert effect.averaged == 4 and effect.difference == pytest.approx(0.15, abs=1e-3)


def test_a_rate_at_which_training_diverged_was_tried(tmp_path: Path) -> None:
    for optim, best in (("sgd", 0.1), ("adam", 0.01)):
        for lr in (0.001, 0.01, 0.1, 1):
            fails = optim == "sgd" and lr == 1
            failed = {"status": "failed", "error": f"The loss became nan: {DIVERGED}."} if fails else {}
            for seed in SEEDS:
                score = 0.6 - 0.02 * abs(np.log10(lr / best)) + LUCK[seed]
                write_run(tmp_path, score, validation=score, seed=seed, optim=optim, lr=lr, **failed)
    caveats = " ".join(report(tmp_path).caveats)
    assert "Not tuned alike" not in caveats and "at the edge of those tried" not in caveats
    everything = load_runs(tmp_path)
    tried = trials(everything[everything.status == "completed"], ["optim", "lr"], "lr", everything)
    (row,) = tried[tried.n == 0].to_dict("records")
    assert (row["optim"], row["lr"], row["chosen"]) == ("sgd", 1, False)


def test_seeds_of_a_second_sweep_are_told_where_two_are_one(tmp_path: Path) -> None:
    for name, seeds in (("first", (1, 2, 3)), ("second", (4, 5))):
        asked = {}
        for aug in ("none", "basic"):
            write(tmp_path / name, 0.5, seeds, aug=aug)
        for folder in (tmp_path / name).iterdir():
            asked[folder.name] = [f"seed={json.loads((folder / 'results.json').read_text())['seed']}"]
        (tmp_path / name / "sweep.json").write_text(json.dumps({"launches": [{"command": "", "jobs": asked}]}))
    assert any(
        caveat.startswith("Not all launches of first, second asked for the same seeds (1, 2, 3; 4, 5).")
        for caveat in report(tmp_path / "first", tmp_path / "second").caveats
    )


def test_seeds_that_a_test_allowed_for_hide_no_others(tmp_path: Path) -> None:
    for name, seeds, asked in (("a", (1, 2), {}), ("b", (3, 4), {}), ("c", (1, 5), {"until": "decided"})):
        write(tmp_path / name, 0.5, seeds, aug="none", asked=asked)
        jobs = {folder.name: ["aug=none"] for folder in (tmp_path / name).iterdir()}
        (tmp_path / name / "sweep.json").write_text(json.dumps({"launches": [{"command": "", "jobs": jobs}]}))
    caveats = report(*(tmp_path / name for name in "abc")).caveats
    assert any(
        caveat.startswith("Not all launches of a, b asked for the same seeds (1, 2; 3, 4)") for caveat in caveats
    )


def test_runs_with_no_accuracy_in_common_are_not_compared(tmp_path: Path) -> None:
    write(tmp_path, 0.5, aug="none")
    write(tmp_path, 0.6, aug="basic", validation=0.6)
    for file in tmp_path.glob("*/results.json"):
        results = json.loads(file.read_text())
        if "val/accuracy" in results["metrics"]:
            results["metrics"] = {name: value for name, value in results["metrics"].items() if "test" not in name}
            file.write_text(json.dumps(results))
    with pytest.raises(ValueError, match=r"^Some runs have only a test accuracy"):
        report(tmp_path)


def test_what_one_transform_of_a_chain_is_reads_as_code(tmp_path: Path) -> None:
    for padding in (4, 8):
        chain = [{"_target_": "src.augment.RandomCrop", "padding": padding}, {"_target_": "src.augment.Flip"}]
        write(tmp_path, 0.5 + padding / 100, **{"aug.transforms": chain})
    (effect, *_) = report(tmp_path).findings
    assert effect.text.startswith(
        "transforms [RandomCrop(padding=8), Flip()] differs from [RandomCrop(padding=4), Flip()] by +4.0 points"
    )


def test_three_quarters_of_a_grid_are_no_recipe(tmp_path: Path) -> None:
    for aug in ("none", "basic"):
        for skip in (False, True):
            failed = {"status": "failed", "error": "No."} if (aug, skip) == ("none", False) else {}
            write(tmp_path, 0.5 + 0.05 * skip, aug=aug, **{"model.skip": skip}, **failed)
    page = report(tmp_path, commands=lambda **what: ["python -m src.train"])
    assert "One change at a time around the recipe" not in [section.title for section in page.sections]
    texts = " ".join(finding.text for finding in page.findings)
    assert re.search(r"averaged over 1 setting of the other factors \(1 of 2 is missing\)", texts)


@pytest.mark.parametrize("left", [True, False])
def test_a_sweep_is_to_be_finished_only_if_it_is_not(tmp_path: Path, left: bool) -> None:
    write(tmp_path, 0.5, (1, 2), aug="none")
    write(tmp_path, 0.6, (3, 4), aug="basic")
    page = report(tmp_path, commands=lambda **what: ["python -m src.train"] * left)
    (text,) = (finding.text for finding in page.findings if "not compared" in finding.text)
    assert text.endswith("Finish the sweep.") == left
