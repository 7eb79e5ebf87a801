"""From the run folders of a sweep to one page: report.md, its figures, and runs.csv.

python -m src.report sweep=skip_norm_init
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

import src.runs.names  # noqa: F401  (the resolver that conf/report.yaml uses)

if TYPE_CHECKING:
    import pandas as pd

SWEEPS = Path("logs/train/sweeps")


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="report")
def main(cfg: DictConfig) -> None:
    from src.runs.job import stop

    try:
        page = report(cfg, Path(HydraConfig.get().runtime.output_dir))
    except Exception as error:
        stop(error, debug=cfg.debug)
    print(page.read_text(encoding="utf-8"))
    print(page)


def report(cfg: DictConfig, folder: Path) -> Path:
    """Write the page into ``folder``.

    Returns:
        Its path.

    Raises:
        FileNotFoundError, ValueError: there is no such sweep, or none of its runs has completed.
    """
    import math

    from src.runs import compare, figures
    from src.runs.folder import RunFolder

    if cfg.sweep is None:
        raise ValueError("Name a sweep: python -m src.report sweep=<name of a folder in logs/train/sweeps>")
    sweep = Path(cfg.sweep) if Path(cfg.sweep).is_dir() else SWEEPS / cfg.sweep
    everything = compare.load_runs(sweep)
    runs = everything[everything.status == "completed"]
    if runs.empty:
        raise ValueError(f"None of the {len(everything)} runs in {sweep} has completed; there is nothing to report.")
    factors = compare.varying_factors(runs)
    classes = len(RunFolder(runs.folder.iloc[0]).results()["classes"])
    scale = _scale(runs)

    everything.to_csv(folder / "runs.csv", index=False)
    drawn = {
        "accuracy": figures.draw_accuracy(runs, factors, scale, chance=1 / classes),
        "gradients": figures.draw_gradients(runs, factors, scale),
        "loss": figures.draw_loss(runs, factors, scale, classes),
    }
    lines = [f"# {sweep.name}", "", f"{len(runs)} of {len(everything)} runs completed: {scale}.", ""]
    for _, run in everything[everything.status != "completed"].iterrows():
        lines.append(f"- not in the figures: {run.folder.name} ({run.status}{': ' + run.error if run.error else ''})")
    lines += ["", *_configurations(compare.configurations(runs, factors), runs, factors)]
    for name, figure in drawn.items():
        if figure is not None:
            figure.savefig(folder / f"{name}.png")
            figure.savefig(folder / f"{name}.svg")
            lines += ["", f"![{name}]({name}.png)"]
    if factors:
        lines += ["", *_effects(runs, factors)]
    lines += ["", f"The loss of guessing among {classes} classes is ln({classes}) = {math.log(classes):.4f}."]
    page = folder / "report.md"
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return page


def _scale(runs: "pd.DataFrame") -> str:
    """How large the experiment is: it stands in every figure."""

    def span(name: str) -> str:
        values = sorted(set(runs[name]), key=str)
        return ", ".join("all" if value is None or value != value else f"{value:,g}" for value in values)

    return f"{span('train_size')} training images, {span('epochs')} epochs, seed {span('seed')}"


def _configurations(table: "pd.DataFrame", runs: "pd.DataFrame", factors: list[str]) -> list[str]:
    """Every configuration, in Markdown."""
    rows = []
    for _, row in table.iterrows():
        verdicts = sorted(set(runs[runs.folder.isin(row.folders)].verdict.dropna()))
        spread = f"{row['std']:.2%}" if row.n > 1 else ""
        levels = [str(row[name]) for name in factors]
        scores = [str(row.n), f"{row['mean']:.2%}", spread, _interval(row.interval, row.n, signed=False)]
        rows.append([*levels, *scores, f"{row.train_loss:.4f}", ", ".join(verdicts)])
    columns = [*factors, "n", "test accuracy", "std", "95 % interval, %", "training loss", "verdict"]
    return [
        *_table(columns, rows),
        "",
        "Mean over n seeds; the interval is that of the mean, by Student's t. Loss of the epoch that was tested.",
    ]


def _effects(runs: "pd.DataFrame", factors: list[str]) -> list[str]:
    """The effect of each factor, and interactions, in Markdown."""
    from src.runs import compare

    def measured(effect: Any) -> list[str]:
        return [str(effect.n), f"{100 * effect.mean:+.1f}", _interval(effect.interval, effect.n)]

    simple = []
    for effect in compare.simple_effects(runs, factors).itertuples():
        held = ", ".join(f"{name} {level}" for name, level in effect.held.items())
        simple.append([effect.factor, effect.change, held, *measured(effect)])
    average = [
        [effect.effect, effect.change, *measured(effect)] for effect in compare.main_effects(runs, factors).itertuples()
    ]
    columns = ["n", "difference, points", "95 % interval"]
    if not average:
        average = [["none", "no seed has all settings", "0", "", ""]]
    return [
        "## One factor changed, the others held fixed",
        "",
        *_table(["factor", "change", "held fixed", *columns], simple),
        "",
        "Difference in test accuracy, in percentage points, between runs that differ in this factor alone, paired by "
        "seed; n pairs, interval by the paired t-test.",
        "",
        "## Averaged over the others, and interactions",
        "",
        *_table(["effect", "change", *columns], average),
        "",
        "Averages within a seed over all settings of the other factors; n seeds for which all settings were run. An "
        "interaction is by how much the first factor's effect grows with the change in the second.",
    ]


def _interval(bounds: tuple[float, float] | None, n: int, *, signed: bool = True) -> str:
    if bounds is None:
        return f"n = {n}: no interval"
    return " to ".join(f"{100 * bound:+.1f}" if signed else f"{100 * bound:.1f}" for bound in bounds)


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]


if __name__ == "__main__":
    main()
