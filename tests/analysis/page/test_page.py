"""The page: what it concludes, and that nothing in it can run or load anything."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.analysis.effects import compare_with_best, configurations, grid, interactions, main_effects
from src.analysis.figures import for_page, level_name
from src.analysis.page.conclusion import conclusion
from src.analysis.page.contents import page_of
from src.analysis.page.page import Finding, Page
from src.analysis.page.written import to_html, to_markdown, to_tex
from src.analysis.table import load_runs, varying_factors
from tests.made_up import write_grid, write_run, write_tuned


def page(*sweeps: Path, **settings: Any) -> Page:
    return page_of(", ".join(sweep.name for sweep in sweeps), load_runs(*sweeps), targets=[0.5], **settings)


# ------------------------------------------------------------------------------------------------------------
# Conclusions
# ------------------------------------------------------------------------------------------------------------


def findings(sweep: Path, smallest: float | None = None) -> list[Finding]:
    """The conclusion without the page around it."""
    runs = load_runs(sweep)
    factors = varying_factors(runs)
    cells = grid(runs, factors)
    table = configurations(runs, factors)
    against_best = compare_with_best(table, factors, smallest)
    effects, crossed = main_effects(cells, smallest), interactions(cells, smallest)
    return conclusion(table, against_best, effects, crossed, factors, None, smallest)


def told(found: list[Finding]) -> str:
    return "\n".join(finding.text for finding in found)


def two_levels(sweep: Path, differences: list[float]) -> Path:
    for seed, difference in enumerate(differences):
        for optim, score in (("sgd", 0.5 + 0.013 * seed), ("adam", 0.5 + 0.013 * seed + difference)):
            write_run(sweep, score, optim=optim, seed=seed)
    return sweep


def test_a_clear_difference_is_told_with_its_interval(tmp_path: Path) -> None:
    found = findings(two_levels(tmp_path, [0.10, 0.11, 0.12]))
    assert [finding.kind for finding in found] == ["differs", None]
    # 0.01 / sqrt(3) is the standard error, 4.3027 Student's t for 95 % and two degrees of freedom.
    assert found[0].text == (
        "optim adam differs from sgd by +11.0 points [+8.5, +13.5] of test accuracy (p = 0.003, n = 3 seeds)."
    )


def test_text_table_and_figure_show_one_direction(tmp_path: Path) -> None:
    made = page(two_levels(tmp_path, [-0.10, -0.11, -0.12]))
    assert "optim adam differs from sgd by -11.0 points [-13.5, -8.5]" in told(made.findings)
    assert "| optim | sgd → adam | 3 | -11.0 | [-13.5, -8.5] |" in to_markdown(made)
    assert made.overview and made.overview.spots[0][2].startswith("optim adam against sgd: differs, -11.00 points")


def test_what_was_asked_has_one_direction_in_all_tables(tmp_path: Path) -> None:
    text = to_markdown(page(three_optimizers(tmp_path)))  # SGD was run first, and Adam is the baseline
    assert "| optim | adam → sgd |" in text and "| optim | sgd → adam |" not in text
    assert "| optim | adam → lion |" in text


def test_at_chance_no_verdict_on_the_factor_stands(tmp_path: Path) -> None:
    for seed in range(4):
        for optim in ("sgd", "adam"):
            write_run(tmp_path, 0.1 + 0.0003 * (-1) ** seed * (optim == "sgd"), optim=optim, seed=seed, asked=ASKED)
    made = page(tmp_path)
    why = "both arms stayed at chance (10.0 %): nothing was learned, so this says nothing about the factor"
    (answer,) = made.answers
    assert answer.kind == "at chance" and answer.text.startswith(f"optim sgd against adam: {why}")
    text = to_markdown(made)
    assert text.count("| at chance |") == 1 and "| equivalent |" not in text and "Equivalent to it" not in text
    assert made.overview and "at chance" in made.overview.spots[0][2]
    learned = [to_markdown(page(two_levels(tmp_path / str(low), [low - 0.5] * 4))) for low in (0.1, 0.12)]
    assert all("| at chance |" not in text for text in learned)


def test_a_difference_within_luck_is_not_told_as_one(tmp_path: Path) -> None:
    found = findings(two_levels(tmp_path, [0.02, -0.01, 0.03]))
    assert found[0].kind == "undecided" and "differs" not in found[0].text
    assert found[0].text == (
        "optim adam against sgd: undecided: +1.3 points [-3.8, +6.5] (p = 0.383, n = 3 seeds). "
        "About 19 more seeds would decide."
    )
    made = page(tmp_path, commands=lambda seeds=0, **_: [f"python -m src.train --multirun of {seeds}"])
    assert made.findings[0].text.endswith("About 19 more seeds would decide: python -m src.train --multirun of 19")


def test_no_effect_is_a_finding_where_a_smallest_effect_is_set(tmp_path: Path) -> None:
    sweep = two_levels(tmp_path, [0.001, -0.001, 0.002])
    assert findings(sweep)[0].kind == "undecided"  # by no test is anything equal
    found = findings(sweep, 0.01)
    # Mean 0.0667 points, standard error 0.0882; t = (1 - 0.0667) / 0.0882 = 10.58, two degrees of freedom.
    # 2.92 is Student's t for 90 %, the interval that two one-sided tests at 5 % compare with the smallest effect.
    assert (found[0].kind, found[0].text) == (
        "equivalent",
        "optim adam against sgd: equivalent, within ±1 point: +0.1 points, 90 % interval [-0.2, +0.3] (p = 0.004 for "
        "equivalence, n = 3 seeds).",
    )
    assert found[1].text.endswith("Equivalent to it, within ±1 point: optim sgd.")
    assert "About 7 more seeds would decide." in findings(sweep, 0.002)[0].text


def test_an_equivalent_arms_interval_never_leaves_the_band(tmp_path: Path) -> None:
    sweep = two_levels(tmp_path, [0.005, -0.004, 0.006, -0.003])  # 95 %: [-0.73, +0.93] points, 90 %: [-0.52, +0.72]
    made = page(sweep, asked={"smallest_effect": 0.75})
    assert made.findings[0].kind == "equivalent" and "90 % interval [-0.5, +0.7]" in made.findings[0].text
    assert "| [-0.5, +0.7] (90 %) |" in to_markdown(made)
    assert made.overview and "[-0.52, +0.72]" in made.overview.spots[0][2] and "90 %" in made.overview.caption


def test_a_difference_too_small_to_matter_is_told_as_such(tmp_path: Path) -> None:
    found = findings(two_levels(tmp_path, [0.0010, 0.0011, 0.0012]), 0.01)[0]
    assert found.kind == "equivalent"
    assert found.text.endswith("It is not zero (p = 0.003), but smaller than what matters.")


def test_runs_that_ignore_a_setting_are_equivalent(tmp_path: Path) -> None:
    found = findings(two_levels(tmp_path, [0.0, 0.0, 0.0]), 0.01)[0]
    assert found.kind == "equivalent" and "the same test accuracy in each of n = 3 seeds." in found.text
    assert findings(two_levels(tmp_path / "shifted", [0.02, 0.02, 0.02]), 0.01)[0].kind == "undecided"


def test_what_does_not_outlast_the_correction_is_not_told_as_clear(tmp_path: Path) -> None:
    for seed, more in enumerate([0.05, 0.08, 0.06]):
        for optim, score in (("sgd", 0.5), ("adam", 0.5 + more), ("adamw", 0.5 + (-1) ** seed * 0.01)):
            write_run(tmp_path, score + 0.01 * seed, optim=optim, seed=seed)
    (adam,) = (finding for finding in findings(tmp_path) if "optim adam differs" in finding.text)
    assert adam.kind == "differs" and "p = 0.038 after Holm over 2 comparisons" in adam.text
    for optim in ("rmsprop", "lion"):
        for seed in range(3):
            write_run(tmp_path, 0.5 + (-1) ** seed * 0.01, optim=optim, seed=seed)
    (adam,) = (finding for finding in findings(tmp_path) if "optim adam against" in finding.text)
    assert adam.kind == "undecided" and "p = 0.075 after Holm over 4 comparisons" in adam.text
    assert "; 0.019 alone)" in adam.text


def test_what_the_highest_is_not_told_from_is_named(tmp_path: Path) -> None:
    for seed, luck in enumerate((0.0, 0.013, 0.021)):
        for optim, score in (("sgd", 0.5), ("adam", 0.6), ("adamw", 0.6 + (-1) ** seed * 0.01)):
            write_run(tmp_path, score + luck + 0.001 * seed * (optim == "adam"), optim=optim, seed=seed)
    found = findings(tmp_path)[-1]
    assert found.text.startswith("optim adamw: 61.5% test accuracy over 3 seeds")
    assert found.text.endswith("Undecided: optim adam.")


def test_who_differs_from_all_others_is_told_so(tmp_path: Path) -> None:
    found = findings(two_levels(tmp_path, [0.10, 0.11, 0.12]))[-1]
    assert found.text.endswith("Every other configuration differs from it.")


def test_no_interval_reaches_beyond_what_is_possible(tmp_path: Path) -> None:
    for seed, score in ((1, 0.02), (2, 0.99)):
        write_run(tmp_path, score, optim="sgd", seed=seed)
        write_run(tmp_path, 1 - score, optim="adam", seed=seed)
    text = to_markdown(page(tmp_path))
    assert "(95 % interval 0.0 to 100.0)" in text and "| 0.0 to 100.0 |" in text
    assert "[-100.0, +100.0] (p" in text and "| [-100.0, +100.0] |" in text


LEVELS: dict[str, list[Any]] = {
    "lists": [[0.5, 0.75], [0.3, 0.6]],
    "lists of mappings": [[{"a": 1}], [{"a": 2}]],
    "mappings": [{"a": 1}, {"a": 2}],
    "equal numbers": [0, 0.0, 0.1],
    "truth and text": [True, "True", "on", False],
    "nothing and text": [None, "None", "none"],
    "all kinds": [1, "a", None, [1], True],
}


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_a_level_may_be_any_value(levels: list[Any], tmp_path: Path) -> None:
    for place, level in enumerate(levels):
        for seed in (1, 2):
            score = 0.5 + 0.05 * place + 0.01 * seed
            write_run(tmp_path, score, validation=score, curve=[0.2, score], seed=seed, x=level)
    made = page(tmp_path)
    assert f">{level_name(levels[0])}</td>" in unescape(to_html(made)) and to_markdown(made)
    assert len({level_name(level) for level in levels if level != 0}) == sum(level != 0 for level in levels)
    assert all(drawing.svg for drawing in made.drawings())


def test_one_seed_is_no_conclusion(tmp_path: Path) -> None:
    text = told(findings(two_levels(tmp_path, [0.3])))
    assert "+30.0 points with one seed. One seed gives no interval, so this is no conclusion; run seed=1,2,3." in text
    assert "n = 1: no interval" in to_markdown(page(tmp_path))


def test_interactions_and_averages_are_told(tmp_path: Path) -> None:
    for seed, luck in enumerate((0.0, 0.01, 0.03)):
        for skip in (False, True):
            for norm in ("none", "batch"):
                effect = (0.2 if norm == "none" else -0.02) * skip + 0.001 * seed * skip * (norm == "none")
                write_run(tmp_path, 0.4 + luck + effect, skip=skip, norm=norm, seed=seed)
    text = told(findings(tmp_path))
    assert "skip on differs from off by +9.1 points" in text and "averaged over 2 settings of the other factors" in text
    assert "But not everywhere: from -2.0 to +20.1, depending on the other factors." in text
    assert "What skip (off → on) is worth depends on norm: with batch, -22.1 points" in text


def test_seeds_that_lack_a_setting_count_in_a_mixed_model(tmp_path: Path) -> None:
    write_grid(tmp_path)
    assert "MixedLM" not in to_markdown(page(tmp_path))
    write_run(tmp_path, 0.23, skip=False, norm=None, seed=4)
    write_run(tmp_path, 0.34, skip=True, norm=None, seed=4)
    text = to_markdown(page(tmp_path))
    assert "| skip | off → on | 2 | 14 | +6." in text and "MixedLM" in text


EVIL = "<script>document.title = 'evil'</script>"
ASKED = {
    "question": "Is Adam another?",
    "primary": {"factor": "optim", "levels": ["adam", "sgd"]},
    "smallest_effect": 1,
}


def three_optimizers(sweep: Path, **asked: Any) -> Path:
    rng = np.random.default_rng(0)
    for seed in range(5):
        for optim, score in (("sgd", 0.52), ("adam", 0.5), ("adamw", 0.5), ("lion", 0.5)):
            score += rng.normal(0, 0.002)
            write_run(sweep, score, validation=score - 0.1, optim=optim, seed=seed, asked=ASKED | asked)
    return sweep


def test_what_was_asked_is_answered_first_and_alone_in_its_family(tmp_path: Path) -> None:
    made = page(three_optimizers(tmp_path))
    (answer,) = made.answers
    assert (made.question, answer.kind) == ("Is Adam another?", "differs")
    assert answer.text.startswith("optim sgd differs from adam by +1.9") and "Holm" not in answer.text
    # The others are a family without it.
    assert "after Holm over 2 comparisons" in told(made.findings) and "sgd" not in told(made.findings[:2])
    text = to_markdown(made)
    assert text.count("| adam → sgd |") == 1
    assert text.startswith("# Is Adam another?\n")
    assert text.index("## Answer") < text.index("## Exploratory") < text.index("## The primary comparison")
    assert "## Exploratory: what each factor is worth" in text


def test_another_metric_may_be_asked_for(tmp_path: Path) -> None:
    primary = {"factor": "optim", "levels": None, "metric": "val/accuracy"}
    answers = page(three_optimizers(tmp_path, primary=primary)).answers
    assert [answer.kind for answer in answers] == 3 * ["differs"]
    assert (
        answers[0].text.startswith("optim adam differs from sgd by -1.9")
        and "of validation accuracy" in answers[0].text
    )


@pytest.mark.parametrize(
    ("primary", "sentence"),
    [
        ({"factor": "optm"}, "The primary comparison cannot be made: there is no factor optm; did you mean optim?"),
        (
            {"factor": "optim", "levels": ["sgd", "adan"]},
            "no completed run has optim adan; did you mean adam or adamw?",
        ),
    ],
)
def test_a_question_that_the_runs_cannot_answer_is_told(primary: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    made = page(three_optimizers(tmp_path, primary=primary))
    assert not made.answers and sentence in made.caveats[0] + "\n"
    mended = page(tmp_path, asked={"primary": {"factor": "optim", "levels": ["sgd", "adam"]}})
    assert mended.answers[0].text.startswith("optim adam differs from sgd by -1.9")
    assert mended.caveats[0].startswith("What is asked was changed after the runs: ")


def test_a_smallest_effect_that_was_changed_after_the_runs_is_told(tmp_path: Path) -> None:
    made = page(three_optimizers(tmp_path), asked={"smallest_effect": 3})
    assert made.answers[0].kind == "equivalent"
    assert "smallest effect is 3 points in this report, and was 1 point when" in made.caveats[0]
    write_run(tmp_path, 0.5, optim="sgd", seed=9, asked=ASKED | {"smallest_effect": 5})
    made = page(tmp_path)
    assert made.caveats[0].startswith("Question, primary comparison or smallest effect are not the same in all runs: 2")
    assert made.answers[0].kind == "differs"  # by the first one


def test_optimizers_are_compared_at_their_own_best_rates(tmp_path: Path) -> None:
    made = page(write_tuned(tmp_path))
    text = told(made.findings)
    assert "optim adam differs from sgd by +14.9 points" in text and "each at its own best lr" in text
    assert any("The best lr is at the edge of those tried for optim adam (0.01)" in caveat for caveat in made.caveats)
    assert "| adam | 0.01 | 3 | 74.10 | 73.10 | chosen |" in to_markdown(made)
    as_factor = told(page(tmp_path, tune=[]).findings)
    assert "at its own best" not in as_factor and "lr 0.1 against 0.01" in as_factor
    with pytest.raises(ValueError, match=r"tune is momentum; expected auto, .* the factors that vary: optim, lr"):
        page(tmp_path, tune="momentum")


def test_training_losses_of_different_losses_are_not_put_side_by_side(tmp_path: Path) -> None:
    for loss in ("bce", "focal"):
        write_run(tmp_path / "s", 0.5, seed=1, validation=0.5, **{"loss._target_": loss})
    made = page(tmp_path / "s")
    assert "loss" not in [drawing.name for drawing in made.drawings()] and "| training loss |" not in to_markdown(made)
    assert to_markdown(made).count("Training losses are not shown: runs were trained with different ones.") == 2
    one = page(two_levels(tmp_path / "one", [0.1, 0.11]))
    assert "| training loss |" in to_markdown(one) and "loss" in [drawing.name for drawing in one.drawings()]


def test_tags_and_notes_are_shown_as_text(tmp_path: Path) -> None:
    assert "| notes |" not in to_markdown(page(write_grid(tmp_path / "plain")))
    for seed in (1, 2):
        write_run(
            tmp_path / "s", 0.5, seed=seed, asked={"tags": ["try", EVIL], "notes": "a|b\n# on the \x1b[2Jold GPU"}
        )
    made = page(tmp_path / "s")
    html, markdown = to_html(made), to_markdown(made)
    assert "| tags | notes |" in markdown and "| try, &lt;script&gt;" in markdown and "a\\|b" in markdown
    assert html.count("<script") == 1 and "\x1b" not in html + markdown and "on the" in html


# ------------------------------------------------------------------------------------------------------------
# The file
# ------------------------------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """All start tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_what_came_from_a_config_is_text_and_nothing_else(tmp_path: Path) -> None:
    sweep = tmp_path / "evil&<b>"
    for seed in (1, 2):
        for aug in (EVIL, '"><img src=x onerror=alert(1)>', "$\\frac{$", "{{ 7 * 7 }}", "a|b\n# c"):
            write_run(sweep, 0.5 + 0.01 * seed, aug=aug, seed=seed, curve=[0.5, 0.6], by_class={EVIL: 0.5, "$": 0.6})
    write_run(sweep, 0.5, aug="none", seed=1, status="failed", error=EVIL)
    html, markdown = to_html(page(sweep)), to_markdown(page(sweep))
    plain = Elements(to_html(page(write_tuned(tmp_path / "plain")))).found
    assert {tag for tag, _ in Elements(html).found} == {tag for tag, _ in plain}
    assert html.count("<script") == 1 and "onerror=alert" in html and "{{ 7 * 7 }}" in html
    assert "evil&amp;&lt;b&gt;" in html and html.count("&lt;script&gt;") > 3
    assert "<script" not in markdown and "\n# c" not in markdown and "a\\|b" in markdown


def test_the_table_of_a_paper_has_the_best_and_its_equals_in_bold(tmp_path: Path) -> None:
    text = to_tex(
        page(three_optimizers(tmp_path), commands=lambda **_: ["python -m src.train --multirun optim=sgd,adam"])
    )
    assert re.search(r"sgd & \$\\mathbf\{5\d\.\d\d \\pm 0\.\d\d\}\$ & 5 ", text) and text.count("mathbf") == 1
    assert "two one-{}sided tests (TOST, 5 \\%, after Holm) excluded 1 point " in text
    assert "torch 2.0; code at c0ffee. Command: python -{}m src.train -{}-{}multirun optim=sgd,adam" in text
    alike = to_tex(page(two_levels(tmp_path / "alike", [0.01, -0.01, 0.002])))
    assert alike.count("mathbf") == 2


@pytest.mark.parametrize("runs", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_whatever_a_run_has_not_recorded_the_others_are_shown(tmp_path: Path, runs: int) -> None:
    files = sorted(two_levels(tmp_path, [0.10, 0.11]).glob("*/results.json"))
    whole = {file: json.loads(file.read_text()) for file in files}
    for missing in whole[files[0]].keys() - {"status", "seed", "metrics"}:
        for file in files[:runs]:
            file.write_text(json.dumps({key: value for key, value in whole[file].items() if key != missing}))
        assert "test accuracy" in to_markdown(page(tmp_path)), missing
        for file in files[:runs]:
            file.write_text(json.dumps(whole[file]))


def test_latex_takes_what_came_from_a_config_for_text(tmp_path: Path) -> None:
    evil = ["\\input{/etc/passwd}", "a_b^c~d {x} $y$ 50% #1 & <|>", "\\\\ ☃ é ß ±", "]]} \\end{document}", "none"]
    for aug in evil:
        for seed in (1, 2):
            write_run(tmp_path / "sweep", 0.5 + 0.01 * seed, aug=aug, seed=seed)
    made = page(tmp_path / "sweep", commands=lambda **_: [f"python {' '.join(evil)}"])
    made = replace(made, sections=made.sections[:1])  # figures take their time
    text = to_tex(made)
    assert "\\input" not in text and text.count("\\end{document}") == 1 and "\\toprule" in text
    opened, closed = re.findall(r"\\begin\{(\w+)\}", text), re.findall(r"\\end\{(\w+)\}", text)
    assert sorted(opened) == sorted(closed)
    (tmp_path / "report.tex").write_text(text, encoding="utf-8")
    (tmp_path / "figures").mkdir()
    for drawing in made.drawings():
        drawing.save(tmp_path / "figures")
        pdf = (tmp_path / "figures" / f"{drawing.name}.pdf").read_bytes()
        assert b"/FontFile2" in pdf and b"/Type3" not in pdf  # TrueType, embedded
    if latex := shutil.which("pdflatex"):
        command = [latex, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "report.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]


def test_the_file_needs_nothing_else(tmp_path: Path) -> None:
    html = to_html(page(write_tuned(tmp_path)))
    for tag, attributes in Elements(html).found:
        assert tag not in ("iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
        assert not any(name.startswith("on") for name in attributes)
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style


def test_figures_follow_the_readers_choice_of_light_or_dark(tmp_path: Path) -> None:
    for drawing in page(write_tuned(tmp_path)).drawings():
        shown = for_page(drawing.svg)
        assert "prefers-color-scheme:dark" in shown and "var(--ink," in shown
        assert "#fffffe" not in shown and "#fffffe" in drawing.svg


def test_the_page_has_everything(tmp_path: Path) -> None:
    made = page(write_tuned(tmp_path / "tuned"))
    assert [drawing.name for drawing in made.drawings()] == [
        "effects",
        "accuracy",
        "tuning",
        "learning",
        "cost",
        "classes",
        "loss",
    ]
    grid = page(write_grid(tmp_path / "grid"))
    assert "grid" in [drawing.name for drawing in grid.drawings()]
    text = to_markdown(made)
    assert "| sgd | 0.1 | 3 | 58.15 | 1.58 |" in text  # mean and standard deviation over seeds
    assert "| optim | sgd → adam | 3 | +14.9 | [+13.6, +16.3] |" in text
    assert "| optim | validation accuracy, mean over epochs, % | epochs (and seconds) to 50% |" in text
    assert "| sgd | 47.54 | 2.0 (4.0 s) |" in text
