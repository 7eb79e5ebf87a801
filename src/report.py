"""From the run folders of a sweep to one page: report.md, its figures, and runs.csv.

python -m src.report sweep=skip_norm_init
"""

from pathlib import Path
from typing import TYPE_CHECKING

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

    if cfg.sweep is None:
        raise ValueError("Name a sweep: python -m src.report sweep=<name of a folder in logs/train/sweeps>")
    sweep = Path(cfg.sweep) if Path(cfg.sweep).is_dir() else SWEEPS / cfg.sweep
    everything = compare.load_runs(sweep)
    runs = everything[everything.status == "completed"]
    if runs.empty:
        raise ValueError(f"None of the {len(everything)} runs in {sweep} has completed; there is nothing to report.")
    factors = compare.varying_factors(runs)
    classes = figures.number_of_classes(runs)
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
        return ", ".join("all" if value is None or value != value else f"{value:g}" for value in values)

    return f"{span('train_size')} training images, {span('epochs')} epochs, seed {span('seed')}"


def _interval(bounds: tuple[float, float] | None, n: int) -> str:
    return f"n = {n}: no interval" if bounds is None else f"{100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f}"


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    marks = ["|" + "|".join(columns) + "|", "|" + "---|" * len(columns)]
    return marks + ["|" + "|".join(cell.replace("|", "\\|") for cell in row) + "|" for row in rows]
