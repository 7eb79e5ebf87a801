"""Every number of the report of a sweep on real images, computed again from its run folders by other means: loops,
statsmodels, and formulas written out. The sweep is kept in notebooks/studies."""

import json
import math
import re
import shutil
import statistics
from collections import Counter
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

import src.report
from src.sweeps.jobs import jobs
from tests.conftest import launch

ROOT = Path(__file__).parents[2]
SWEEP = ROOT / "notebooks/studies/batchnorm_by_augmentation"
SMALLEST = 0.01
LEVELS: dict[str, list[str]] = {"norm": ["none", "batch"], "aug": ["none", "basic", "trivialaugment"]}
SEEDS = [1, 2, 3, 4, 5]
Cells = list[str]
Tables = list[tuple[Cells, list[Cells]]]  # each: its head, and its rows


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    cwd = tmp_path_factory.mktemp("report")
    run = launch(src.report.main, cwd, f"sweep={SWEEP}")
    assert run.code == 0, run.err
    (file,) = cwd.rglob("report.md")
    return file.read_text()


def tables(report: str, title: str) -> Tables:
    """The tables of a section."""
    section = report.partition(f"## {title}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"(?:^\|.*\n?)+", section, re.MULTILINE)
    split = [
        [[cell.strip() for cell in line.strip("| \n").split(" | ")] for line in block.splitlines()] for block in blocks
    ]
    return [(rows[0], rows[2:]) for rows in split]


@pytest.fixture(scope="module")
def runs() -> dict[tuple[str, str, int], dict[str, Any]]:
    """The content of results.json, by norm, aug and seed."""
    found = {}
    for file in SWEEP.glob("*/results.json"):
        results = json.loads(file.read_text()) | {"folder": file.parent}
        found[results["settings"]["model.norm"], results["choices"]["aug"], results["seed"]] = results
    assert found.keys() == set(product(*LEVELS.values(), SEEDS))
    return found


def shown(text: str, *values: float) -> bool:
    """Whether the numbers in ``text`` are ``values``, each as exact as it is shown."""
    found = re.findall(r"[+-]?\d[\d,]*(?:\.\d+)?", text)
    exact = [10 ** -len(number.partition(".")[2]) for number in found]
    close = [abs(float(number.replace(",", "")) - value) for number, value in zip(found, values, strict=True)]
    return all(error <= 0.5 * unit * (1 + 1e-6) for error, unit in zip(close, exact, strict=True))


def shows_p(text: str, p: float) -> bool:
    return p < 0.001 if text == "&lt; 0.001" else shown(text, p)


@pytest.fixture(scope="module")
def accuracy(runs: dict[tuple[str, str, int], dict[str, Any]]) -> dict[tuple[str, str, int], float]:
    """The accuracy is the share of images whose predicted class is theirs."""
    found = {}
    for key, run in runs.items():
        with np.load(run["folder"] / "test_outcomes.npz") as file:
            found[key] = sum(map(int, file["predicted"] == file["label"])) / len(file["label"])
        assert found[key] == pytest.approx(run["metrics"]["test/accuracy"], abs=1e-7)
    return found


def test_configurations(report: str, runs: Any, accuracy: Any) -> None:
    ((head, rows),) = tables(report, "Accuracy of each configuration")
    assert head[2:] == ["n", "test accuracy, %", "std", "95 % interval, %", "validation, %", "training loss"]
    assert [tuple(row[:2]) for row in rows] == list(product(*LEVELS.values()))
    for norm, aug, n, mean, std, interval, validation, loss in rows:
        of_seeds = [100 * accuracy[norm, aug, seed] for seed in SEEDS]
        assert int(n) == 5 and shown(mean, statistics.fmean(of_seeds)) and shown(std, statistics.stdev(of_seeds))
        assert shown(interval, *DescrStatsW(of_seeds).tconfint_mean())
        metrics = [runs[norm, aug, seed]["metrics"] for seed in SEEDS]
        assert shown(validation, statistics.fmean(100 * each["val/accuracy"] for each in metrics))
        assert shown(loss, statistics.fmean(each["train/loss"] for each in metrics))


def check_tests(rows: list[dict[str, str]], pairs: list[tuple[list[float], list[float]]]) -> None:
    """Rows of one table, one family for Holm, against ``pairs``: accuracies before and after the change, by seed."""
    differs = [DescrStatsW(np.subtract(after, before)).ttest_mean()[1] for before, after in pairs]
    equal = [ttost_paired(np.array(after), np.array(before), -SMALLEST, SMALLEST)[0] for before, after in pairs]
    p_holm, equal_holm = (multipletests(p, method="holm")[1] for p in (differs, equal))
    for place, (row, (before, after)) in enumerate(zip(rows, pairs, strict=True)):
        gains = [b - a for a, b in zip(before, after, strict=True)]
        if equal_holm[place] < 0.05:
            verdict, alpha = "equivalent", 0.1
        else:
            verdict, alpha = ("differs" if p_holm[place] < 0.05 else "undecided"), 0.05
        assert row["verdict"] == verdict
        assert int(row["n"]) == len(gains) and shown(row["difference, points"], 100 * statistics.fmean(gains))
        interval = stats.t.interval(1 - alpha, len(gains) - 1, statistics.fmean(gains), stats.sem(gains))
        assert shown(row["95 % interval"], *(100 * end for end in interval))
        assert shows_p(row["p"], differs[place]) and shows_p(row["p (Holm)"], p_holm[place])
        assert shows_p(row["p (equal)"], equal_holm[place])
        wins = sum(gain > 0 for gain in gains)
        low, high = proportion_confint(wins, len(gains), method="beta")
        assert shown(row["P (better)"], wins / len(gains), low if wins else 0, high if wins < len(gains) else 1)
        if "g_av" in row:
            d_av = statistics.fmean(gains) / ((statistics.stdev(before) + statistics.stdev(after)) / 2)
            assert shown(row["g_av"], d_av * (1 - 3 / (4 * (len(before) + len(after)) - 9)))


def mean_over(accuracy: Any, seed: int, **fixed: str) -> float:
    """Of a seed, over the levels of the factors that are not ``fixed``."""
    levels = [[fixed[factor]] if factor in fixed else LEVELS[factor] for factor in LEVELS]
    return statistics.fmean(accuracy[norm, aug, seed] for norm, aug in product(*levels))


def changes(factor: str) -> list[tuple[str, str]]:
    return [(LEVELS[factor][0], level) for level in LEVELS[factor][1:]]


def as_dicts(table: tuple[Cells, list[Cells]]) -> list[dict[str, str]]:
    return [dict(zip(table[0], row, strict=True)) for row in table[1]]


def test_the_answer_and_averages(report: str, accuracy: Any) -> None:
    pairs = {
        (factor, f"{a} → {b}"): [[mean_over(accuracy, seed, **{factor: level}) for seed in SEEDS] for level in (a, b)]
        for factor in LEVELS
        for a, b in changes(factor)
    }
    (asked,) = as_dicts(tables(report, "The primary comparison")[0])
    check_tests([asked], [pairs.pop(("norm", "none → batch"))])
    rows = as_dicts(tables(report, "Exploratory: what each factor is worth")[0])
    assert [(row["factor"], row["change"]) for row in rows] == list(pairs)
    check_tests(rows, list(pairs.values()))
    answer = report.partition("## Answer")[2].partition("\n## ")[0]
    assert f"norm batch differs from none by {asked['difference, points']} points {asked['95 % interval']}" in answer


def test_one_factor_alone(report: str, accuracy: Any) -> None:
    ((head, rows),) = tables(report, "One factor changed, the others held fixed")
    pairs, expected = [], []
    for factor, other in (("norm", "aug"), ("aug", "norm")):
        for (a, b), held in product(changes(factor), LEVELS[other]):
            expected.append([factor, f"{a} → {b}", f"{other} {held}"])
            pairs.append([[mean_over(accuracy, s, **{factor: x, other: held}) for s in SEEDS] for x in (a, b)])
    assert [row[:3] for row in rows] == expected
    check_tests(as_dicts((head, rows)), pairs)


def test_interactions(report: str, accuracy: Any) -> None:
    table = as_dicts(tables(report, "Exploratory: what each factor is worth")[1])
    pairs = [
        [[accuracy["batch", aug, seed] - accuracy["none", aug, seed] for seed in SEEDS] for aug in ("none", level)]
        for level in ("basic", "trivialaugment")
    ]
    assert [row["goes"] for row in table] == ["none → basic", "none → trivialaugment"]
    check_tests(table, pairs)


@pytest.fixture(scope="module")
def predictions(runs: Any) -> dict[tuple[str, str, int], tuple[list[int], list[int]]]:
    """Predicted classes and labels, by norm, aug and seed."""
    found = {}
    for key, run in runs.items():
        with np.load(run["folder"] / "test_outcomes.npz") as file:
            found[key] = file["predicted"].tolist(), file["label"].tolist()
    return found


def test_test_images(report: str, accuracy: Any, predictions: Any) -> None:
    """Spread, agreement and vote in loops over images."""
    of_configurations, of_changes = tables(report, "What single test images say")
    observed, of_test_set = [], []
    for norm, aug, n, sd, finite, beyond, agreement, vote, gain in of_configurations[1]:
        label = predictions[norm, aug, 1][1]
        seeds = [predictions[norm, aug, seed][0] for seed in SEEDS]
        size = len(label)
        total = statistics.variance(accuracy[norm, aug, seed] for seed in SEEDS)
        right = [sum(seed[image] == label[image] for seed in seeds) / 5 for image in range(size)]
        sampling = sum(p * (1 - p) * 5 / 4 for p in right) / size**2
        observed.append(total), of_test_set.append(sampling)
        assert int(n) == 5 and shown(sd, 100 * math.sqrt(total)) and shown(finite, 100 * math.sqrt(sampling))
        assert shown(beyond, 100 * math.sqrt(max(total - sampling, 0) * size / (size - 1)))
        same = [sum(x == y for x, y in zip(a, b, strict=True)) / size for a, b in combinations(seeds, 2)]
        assert shown(agreement, 100 * statistics.fmean(same))
        won = 0.0
        for image in range(size):
            votes = Counter(seed[image] for seed in seeds)
            winners = [choice for choice, count in votes.items() if count == max(votes.values())]
            won += (label[image] in winners) / len(winners)
        assert shown(vote, 100 * won / size)
        assert shown(gain, 100 * (won / size - statistics.fmean(accuracy[norm, aug, seed] for seed in SEEDS)))
    text = re.search(r"Over seeds, the test accuracy has (.*)\. Pooled", report)[1]  # type: ignore[index]
    pooled, sampled, freedom = statistics.fmean(observed), statistics.fmean(of_test_set), 4 * len(observed)
    ends = [freedom * pooled / stats.chi2.ppf(quantile, freedom) for quantile in (0.975, 0.025)]
    beyond = [100 * math.sqrt(max(each - sampled, 0) * 10_000 / 9_999) for each in (pooled, *ends)]
    assert shown(text.replace("95 %", ""), 100 * math.sqrt(pooled), 100 * math.sqrt(sampled), *beyond)

    for factor, change, pairs, fixed, broken, net, agreement in of_changes[1]:
        a, b = change.split(" → ")
        other = "aug" if factor == "norm" else "norm"
        won, lost, same = [], [], []
        for held, seed in product(LEVELS[other], SEEDS):
            before, after = (
                predictions[(level, held, seed) if factor == "norm" else (held, level, seed)] for level in (a, b)
            )
            for x, y, label in zip(before[0], after[0], before[1], strict=True):
                won.append(y == label != x), lost.append(x == label != y), same.append(x == y)
        assert int(pairs) == 5 * len(LEVELS[other])
        assert shown(fixed, 100 * statistics.fmean(won)) and shown(broken, 100 * statistics.fmean(lost))
        assert shown(net, 100 * (statistics.fmean(won) - statistics.fmean(lost)))
        assert shown(agreement, 100 * statistics.fmean(same))


def test_learning_and_cost(report: str, runs: Any, accuracy: Any) -> None:
    curves = {key: pd.read_csv(run["folder"] / "metrics.csv") for key, run in runs.items()}
    ((heads, rows),) = tables(report, "How fast they learn")
    assert heads[-1] == "epochs (and seconds) to 30%"
    for norm, aug, area, reached in rows:
        of_seeds = [curves[norm, aug, seed] for seed in SEEDS]
        first, second, third = (
            statistics.fmean(curve["val/accuracy"][epoch] for curve in of_seeds) for epoch in range(3)
        )
        assert shown(area, 100 * ((first + second) / 2 + (second + third) / 2) / 2)
        there = [curve[curve["val/accuracy"] >= 0.3] for curve in of_seeds]
        there = [curve for curve in there if len(curve)]
        if len(there) < 5:
            assert reached == (f"{len(there)} of 5 seeds" if there else "–")
            continue
        epochs, seconds = reached.removesuffix(" s)").split(" (")
        assert shown(epochs, statistics.fmean(curve.epoch.iloc[0] for curve in there))
        until = [sum(whole.seconds[: int(curve.epoch.iloc[0])]) for whole, curve in zip(of_seeds, there, strict=True)]
        assert shown(seconds, statistics.fmean(until))
    ((_, rows),) = tables(report, "Accuracy against cost")
    for norm, aug, mean, parameters, operations, seconds, speed in rows:
        of_runs = [runs[norm, aug, seed] for seed in SEEDS]
        assert shown(mean, 100 * statistics.fmean(accuracy[norm, aug, seed] for seed in SEEDS))
        weights = 3 * 32 * 9 + 32 + 32 * 64 * 9 + 64 + 64 * 128 * 9 + 128 + 128 * 64 * 10 + 10
        assert shown(parameters, weights + (2 * (32 + 64 + 128) if norm == "batch" else 0))
        assert shown(operations, statistics.fmean(run["flops_per_image"] / 1e6 for run in of_runs))
        assert shown(seconds, statistics.fmean(run["seconds"] for run in of_runs))
        assert shown(speed, statistics.fmean(run["images_per_second"] for run in of_runs))


PLAIN = {"model": "deepcnn", "model.skip": False, "model.norm": "none", "model.init": "torch"}
TOLD = {  # rows of README's table: the study, and the settings of the runs before and after the change
    "Does a skip connection alone": ("skip_norm_init", PLAIN, {"model.skip": True}),
    "He's initialisation alone?": ("skip_norm_init", PLAIN, {"model.init": "he"}),
    "BatchNorm alone?": ("skip_norm_init", PLAIN, {"model.norm": "batch"}),
    "on top of BatchNorm?": ("skip_norm_init", PLAIN | {"model.norm": "batch"}, {"model.skip": True}),
    "The same for ResNet-20?": ("degradation", {"model": "resnet20", "model.skip": False}, {"model.skip": True}),
    "And for ResNet-56?": ("degradation", {"model": "resnet56", "model.skip": False}, {"model.skip": True}),
    "56 plain layers against 20": ("degradation", {"model": "resnet20", "model.skip": False}, {"model": "resnet56"}),
    "Adam against SGD": ("optimizers", {"optim": "sgd", "optim.lr": 0.1}, {"optim": "adam", "optim.lr": 0.003}),
    "AdamW against SGD": ("optimizers", {"optim": "sgd", "optim.lr": 0.1}, {"optim": "adamw", "optim.lr": 0.003}),
    "for ResNet-20 in 10 epochs?": ("augmentation", {"aug": "none"}, {"aug": "basic"}),
    "TrivialAugment on top,": ("augmentation", {"aug": "basic"}, {"aug": "trivialaugment"}),
    "Mirror images at test time": ("trivialaugment_tta", {"tta": "none"}, {"tta": "flip"}),
    "The same in 15 minutes": ("stem_seconds", {"model": "resnet50_imagenet_stem"}, {"model": "resnet50_cifar_stem"}),
    "The CIFAR stem, to": ("stem_10", {"model": "resnet50_imagenet_stem"}, {"model": "resnet50_cifar_stem"}),
}


@pytest.mark.parametrize("row", TOLD)
def test_what_the_readme_says_is_what_the_runs_say(row: str) -> None:
    study, before, change = TOLD[row]
    scores: list[dict[int, list[float]]] = [{}, {}]  # of all runs that have the settings, whatever else they have
    for file in (ROOT / "notebooks/studies" / study).glob("*/results.json"):
        run = json.loads(file.read_text())
        for place, wanted in enumerate((before, before | change)):
            settings = run["settings"] | run["choices"]
            if run["status"] == "completed" and all(settings[key] == value for key, value in wanted.items()):
                scores[place].setdefault(run["seed"], []).append(run["metrics"]["test/accuracy"])
    assert scores[0].keys() == scores[1].keys() == {1, 2, 3}
    assert len({len(found) for place in scores for found in place.values()}) == 1
    gains = [100 * (statistics.fmean(scores[1][seed]) - statistics.fmean(scores[0][seed])) for seed in (1, 2, 3)]
    low, high = stats.t.interval(0.95, 2, statistics.fmean(gains), stats.sem(gains))
    (line,) = (line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if row in line)
    assert f"{statistics.fmean(gains):+.1f} points ({low:+.1f} to {high:+.1f})" in line and "| 3 |" in line
    japanese = (ROOT / "README.ja.md").read_text(encoding="utf-8")
    assert f"{statistics.fmean(gains):+.1f} ポイント（{low:+.1f} ～ {high:+.1f}）" in japanese  # noqa: RUF001


STUDIES = sorted(folder.parent.name for folder in (ROOT / "notebooks/studies").glob("*/sweep.json"))


@pytest.mark.parametrize("study", STUDIES)
def test_no_run_of_a_study_is_missing(study: str) -> None:
    found = jobs(ROOT / "notebooks/studies" / study)
    assert len(found) >= 6 and {job.state for job in found} == {"completed"}


def test_a_report_is_made_of_a_sweep_cut_short(tmp_path: Path) -> None:
    """As the first session on a GPU left it: AdamW at its lowest rate, with two seeds of three."""
    sweep = shutil.copytree(ROOT / "notebooks/studies/optimizers", tmp_path / "optimizers")
    kept = {f"lr_multiplier=0.3,model=resnet20,optim=adamw,seed={seed}" for seed in (1, 2)}
    missing = [run for run in sweep.glob("*optim=adamw*") if run.name not in kept]
    for run in missing:
        shutil.rmtree(run)
    run = launch(src.report.main, tmp_path, f"sweep={sweep}")
    assert len(missing) == 7 and run.code == 0 and "The sweep is incomplete" in run.out, run.err
    (page,) = tmp_path.rglob("report.md")
    assert "To finish: python -m src.train --multirun" in page.read_text()
