"""One change at a time around a recipe."""

from pathlib import Path

from src.analysis.design import recipe
from src.analysis.effects import configurations
from src.analysis.page.contents import page_of
from src.analysis.page.page import Table
from src.analysis.table import load_runs, varying_factors
from tests.made_up import write_grid, write_run

ARMS = [(True, "batch", "basic"), (False, "batch", "basic"), (True, None, "basic"), (True, "batch", "none")]


def write_arms(sweep: Path) -> Path:
    """The recipe comes last, so that no order of launching names it."""
    for skip, norm, aug in reversed(ARMS):
        lost = 0.02 * (not skip) + 0.3 * (norm is None) + 0.05 * (aug == "none")
        for seed, luck in ((1, 0.0), (2, 0.011), (3, 0.05)):
            own = 0.001 * seed * (ARMS.index((skip, norm, aug)) + 1)
            write_run(sweep, 0.6 - lost + luck + own, skip=skip, norm=norm, aug=aug, seed=seed)
    return sweep


def test_the_recipe_is_found_in_the_arms_and_in_no_full_grid(tmp_path: Path) -> None:
    for sweep, expected in ((write_arms(tmp_path / "arms"), True), (write_grid(tmp_path / "grid"), False)):
        runs = load_runs(sweep)
        found = recipe(configurations(runs, varying_factors(runs)), varying_factors(runs))
        assert (found is not None) is expected
        if found is not None:
            assert (found.skip, found.norm, found.aug) == ARMS[0]


def test_the_report_has_an_ablation_table_of_one_row_a_change(tmp_path: Path) -> None:
    page = page_of("arms", load_runs(write_arms(tmp_path)))
    (section,) = [section for section in page.sections if section.title.startswith("One change at a time")]
    assert "aug basic" in str(section.parts[0]) and "62.23% accuracy over 3 seeds" in str(section.parts[0])
    (table,) = [part for part in section.parts if isinstance(part, Table)]
    changes = {(row[0].text, row[1].text): row[table.columns.index("difference, points")].text for row in table.rows}
    assert changes == {
        ("aug", "basic → none"): "-4.4",
        ("norm", "batch → None"): "-29.6",
        ("skip", "on → off"): "-1.8",
    }
    told = " ".join(finding.text for finding in page.findings)
    assert "the other factors held fixed" in told and "missing" not in told
    assert not any(section.title == "What each factor is worth" for section in page.sections)
