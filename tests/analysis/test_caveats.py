"""What must be said before a conclusion."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from src.analysis.caveats import caveats
from src.analysis.effects import without_repetitions
from src.analysis.page.contents import page_of
from src.analysis.page.written import to_markdown
from src.analysis.table import load_runs, varying_factors
from src.sweeps.always_valid import interval, p_value
from tests.made_up import write_grid, write_run, write_tuned


def said(sweep: Path) -> str:
    everything = load_runs(sweep)
    completed = without_repetitions(everything[everything.status == "completed"])
    return "\n".join(caveats(everything, completed, varying_factors(completed)))


def test_a_complete_sweep_of_three_seeds_is_told_to_be_small_and_nothing_else(tmp_path: Path) -> None:
    told = said(write_grid(tmp_path))
    assert told.startswith("3 seeds: ") and "spans 4.3 standard errors" in told and "\n" not in told
    for optim in ("sgd", "adam"):
        for seed in range(5):
            write_run(tmp_path / "five", 0.5, optim=optim, seed=seed)
    assert said(tmp_path / "five") == ""


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"commit": "decaf"}, "different revisions of the code: 12 at c0ffee, 1 at decaf."),
        ({"diff": "1234"}, "different revisions of the code: 12 at c0ffee, 1 at c0ffee with code-1234.diff."),
        ({"revisions": 2}, "1 of 13 runs were interrupted and went on with other code than they began with."),
        ({"torch": "2.1"}, "different versions of torch: 12 with 2.0, 1 with 2.1."),
        ({"status": "failed", "error": "boom"}, "The sweep is incomplete: 12 of 13 jobs completed (1 failed)."),
        ({"seed": 3}, "Completed jobs that repeat others exactly (equal fingerprint): 1."),
        ({}, "Configurations have from 3 to 4 seeds."),
    ],
)
def test_a_run_that_is_not_like_the_others_is_told(tmp_path: Path, other: dict[str, Any], sentence: str) -> None:
    write_grid(tmp_path)
    write_run(tmp_path, 0.5, **({"skip": True, "norm": "batch", "seed": 4} | other))
    assert sentence in said(tmp_path)


def test_few_seeds_are_told(tmp_path: Path) -> None:
    for aug in ("none", "basic"):
        write_run(tmp_path, 0.5, aug=aug, seed=1)
    assert "One seed: nothing tells an effect from luck" in said(tmp_path)
    for aug in ("none", "basic"):
        write_run(tmp_path, 0.5, aug=aug, seed=2)
    assert "2 seeds: their spread is known to 1 degree of freedom" in said(tmp_path)


def test_images_that_are_not_the_same_are_told(tmp_path: Path) -> None:
    for seed, content in ((1, "a" * 64), (2, "b" * 64), (3, "b" * 64)):
        write_run(tmp_path, 0.5, seed=seed, content=content)
    assert "The images, labels or classes are not the same in all runs" in said(tmp_path)
    assert "2 on bbbbbbbb, 1 on aaaaaaaa" in said(tmp_path)


def test_runs_that_do_not_know_their_images_are_told(tmp_path: Path) -> None:
    for seed, content in ((1, None), (2, "b" * 64), (3, "b" * 64)):
        write_run(tmp_path, 0.5, seed=seed, content=content)
    assert "1 of 3 runs did not record the content of their images" in said(tmp_path)


def test_what_changes_along_with_a_factor_is_told(tmp_path: Path) -> None:
    for optim, smoothing in (("sgd", 0.0), ("adam", 0.1)):
        write_run(tmp_path, 0.5, optim=optim, label_smoothing=smoothing, seed=1)
    assert "Along with optim changes label_smoothing" in said(tmp_path)


def test_an_arm_that_has_only_begun_to_learn_is_told(tmp_path: Path) -> None:
    for seed in range(5):
        write_run(tmp_path, 0.15 + 0.001 * seed, optim="sgd", seed=seed)  # ten classes: 19 % is a tenth of the way
        write_run(tmp_path / "both", 0.15, optim="sgd", seed=seed)
        write_run(tmp_path / "both", 0.16, optim="adam", seed=seed)
        write_run(tmp_path / "none", 0.10, optim="sgd", seed=seed)
        write_run(tmp_path / "none", 0.80, optim="adam", seed=seed)
        write_run(tmp_path, 0.80, optim="adam", seed=seed)
    told = "\n".join(page_of("s", load_runs(tmp_path)).caveats)
    assert "Hardly above chance, 10.0%: optim sgd (15.2%). A network that has only begun" in told
    for other in ("both", "none"):  # told as at chance, or for no arm in particular
        assert "Hardly above chance" not in "".join(page_of("s", load_runs(tmp_path / other)).caveats)


def test_a_setting_that_equals_the_seed_is_told(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write_run(tmp_path, 0.5, seed=seed, **{"data.fold": seed})
    assert "Along with the seed changes data.fold" in said(tmp_path)


def test_seeds_that_were_added_for_another_question_than_the_tests_are_told_as_such(tmp_path: Path) -> None:
    for tta, gain in (("none", 0.0), ("flip", 0.02)):
        for seed in (1, 2, 3):
            asked = {"primary": {"factor": "tta", "levels": ["none", "flip"]}, "until": "decided"}
            write_run(tmp_path, 0.5 + gain + seed / 100, tta=tta, seed=seed, asked=asked)
    assert "Seeds were added one by one, until another comparison was decided" in said(tmp_path)


def test_seeds_that_were_added_until_all_was_clear_are_told_with_an_interval_that_allows_for_it(tmp_path: Path) -> None:
    for seed, luck in ((1, 0.0), (2, 0.01), (3, 0.02), (4, 0.0), (5, -0.01)):
        for optim, gain in (("sgd", 0.0), ("adam", 0.1 + luck / 2)):
            folder = write_run(tmp_path, 0.5 + luck + gain, optim=optim, seed=seed)
            results = json.loads((folder / "results.json").read_text())
            results["config"]["until"] = "decided"
            (folder / "results.json").write_text(json.dumps(results))
    page = page_of("decided", load_runs(tmp_path))
    assert page.caveats[0].startswith(
        "Seeds were added one by one, until the primary comparison was decided or max_seeds was reached."
    )
    (finding,) = [finding.text for finding in page.findings if "adam differs from sgd" in finding.text]
    low, high = interval([0.1, 0.105, 0.11, 0.1, 0.095])
    assert f"+10.2 points [{100 * low:+.1f}, {100 * high:+.1f}] of test accuracy" in finding
    assert f"p = {p_value([0.1, 0.105, 0.11, 0.1, 0.095]):.3f}" in finding or "p < 0.001" in finding
    text = to_markdown(page)
    assert "t-test" not in text and f"| [{100 * low:+.1f}, {100 * high:+.1f}] |" in text
    assert "t-test" not in page.results.caption + page.results.methods
    assert "Every other configuration differs from it." in page.findings[-1].text


def test_by_the_e_value_alone_is_the_highest_compared_with_the_others(tmp_path: Path) -> None:
    for seed, luck in ((1, 0.0), (2, 0.05), (3, 0.02), (4, 0.04)):  # t-test: p = 0.03
        for optim, gain in (("sgd", 0.0), ("adam", 0.03 + luck / 2)):
            write_run(tmp_path, 0.5 + luck + gain, optim=optim, seed=seed, asked={"until": "decided"})
    page = page_of("decided", load_runs(tmp_path))
    assert page.findings[0].kind == "undecided" and page.findings[-1].text.endswith("Undecided: optim sgd.")


def test_seeds_of_a_later_launch_are_told(tmp_path: Path) -> None:
    names: dict[int, list[str]] = {}
    for seed in (1, 2, 3, 4, 5):
        names[seed] = [write_run(tmp_path, 0.5 + seed / 100, optim=optim, seed=seed).name for optim in ("sgd", "adam")]

    def launched(*launches: tuple[int, ...]) -> str:
        asked = [{name: [name] for seed in seeds for name in names[seed]} for seeds in launches]
        content = [{"command": "python -m src.train --multirun", "jobs": jobs} for jobs in asked]
        (tmp_path / "sweep.json").write_text(json.dumps({"schema": 1, "launches": content}))
        return said(tmp_path)

    assert launched((1, 2, 3, 4, 5)) == ""
    assert "asked for the same seeds (1, 2, 3; 4, 5). If some were added because" in launched((1, 2, 3), (4, 5))
    assert "(1, 2, 3, 4, 5; 1, 2, 3)" in launched((1, 2, 3, 4, 5), (1, 2, 3))


def test_a_launch_cut_short_asked_for_the_seeds_it_has_not_run(tmp_path: Path) -> None:
    launches = []
    for optim, missing in (("sgd", {}), ("adam", {"never started": ["optim=adam", "seed=2"]})):
        seeds = (1,) if missing else (1, 2)
        names = [write_run(tmp_path, 0.5 + seed / 100, optim=optim, seed=seed).name for seed in seeds]
        launches.append(
            {"command": "python -m src.train --multirun", "jobs": {name: [name] for name in names} | missing}
        )
    (tmp_path / "sweep.json").write_text(json.dumps({"schema": 1, "launches": launches}))
    assert "1 missing" in said(tmp_path) and "asked for the same seeds" not in said(tmp_path)


def test_an_arm_that_was_tuned_less_is_told_first_and_in_the_sentence(tmp_path: Path) -> None:
    def page_said() -> tuple[list[str], str]:
        page = page_of("tuned", load_runs(tmp_path))
        return page.caveats, next(finding.text for finding in page.findings if "optim adam" in finding.text)

    write_tuned(tmp_path)
    warnings, finding = page_said()
    assert "tuned alike" not in "".join(warnings) and "each at its own best lr." in finding
    runs = load_runs(tmp_path)
    for folder in runs[(runs.optim == "sgd") & (runs.lr == 0.1)].folder:
        shutil.rmtree(folder)
    warnings, finding = page_said()
    assert warnings[0].startswith("Not tuned alike: lr was chosen among fewer values for optim sgd (2) than for")
    assert "each at its own best lr (of 3 and of 2)." in finding


def test_how_many_values_an_arm_was_tuned_over_is_counted_for_each_of_the_other_factors(tmp_path: Path) -> None:
    for optim in ("sgd", "adam"):
        for model in ("small", "large"):
            for lr in (0.1, 0.2, 0.3)[: 1 if (optim, model) == ("adam", "large") else 3]:
                for seed in (1, 2):
                    score = 0.5 + seed / 100 + lr * (0.1 if optim == "sgd" else 0.2)
                    write_run(tmp_path, score, validation=score, optim=optim, lr=lr, seed=seed, model=model)
    page = page_of("tuned", load_runs(tmp_path))
    (finding,) = [finding.text for finding in page.findings if finding.text.startswith("optim adam")]
    assert page.caveats[0].startswith("Not tuned alike: lr was chosen among fewer values for ")
    assert "each at its own best lr (of 1 or 3 and of 3)" in finding
