"""From the run folders of one or more sweeps to a report: report.html, report.md, report.tex, runs.csv and
figures."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from src.analysis.page.contents import page_of
from src.analysis.page.page import Page
from src.analysis.page.search import SEARCH
from src.analysis.page.test_set import Images
from src.analysis.page.written import to_html, to_markdown, to_tex
from src.analysis.table import load_runs
from src.runs.escaping import csv_cell, printable
from src.runs.files import check_stays_within
from src.runs.question import question_of
from src.sweeps.jobs import commands, find_sweep, jobs


def write_report(cfg: DictConfig, folder: Path, images: Images | None = None) -> Page:
    """Write the report into ``folder``.

    Args:
        cfg: see conf/report.yaml.
        images: see ``page_of``.

    Raises:
        FileNotFoundError, ValueError: there is no such sweep, none of its runs has completed, or a setting does not
            fit it.
    """
    check_stays_within(folder)
    if not cfg.sweep:
        raise ValueError("Name a sweep: python -m src.report sweep=NAME, a folder in logs/train/sweeps")
    if not all(type(target) in (int, float) and 0 < target <= 1 for target in cfg.targets):
        raise ValueError(
            f"targets is {cfg.targets}; expected validation accuracies above 0, up to 1, such as [0.5,0.9]."
        )
    if not isinstance(cfg.baseline, DictConfig):
        raise ValueError(f"baseline is {cfg.baseline!r}; expected a level by factor, such as +baseline.optim=adam.")
    asked: Any = OmegaConf.to_container(OmegaConf.masked_copy(cfg, ["question", "primary", "smallest_effect"]))
    question_of(asked)  # a mistake is told before the runs are read
    sweeps = [find_sweep(str(name)) for name in (cfg.sweep if isinstance(cfg.sweep, ListConfig) else [cfg.sweep])]
    found = {sweep: jobs(sweep) for sweep in sweeps}
    everything = load_runs(*sweeps, found=found)
    if not (everything.status == "completed").any():
        where = ", ".join(map(str, sweeps))
        raise ValueError(f"None of the {len(everything)} runs in {where} has completed; there is nothing to report.")
    page = page_of(
        printable(", ".join(sweep.name for sweep in sweeps)),
        everything,
        tune=cfg.tune if isinstance(cfg.tune, str) else list(cfg.tune or []),
        targets=list(cfg.targets),
        baselines=dict(cfg.baseline),
        asked=asked,
        images=images,
        sweeps=sweeps,
        commands=lambda **what: [line for sweep in sweeps for line in commands(sweep, found[sweep], **what)],
    )
    cells = everything.drop(columns=["by_class", "classes", "settings", "choices", "asked", "curve", "launches"])
    cells.rename(columns=csv_cell).map(csv_cell).to_csv(folder / "runs.csv", index=False)
    (folder / "figures").mkdir(exist_ok=True)
    for drawing in page.drawings():
        drawing.save(folder / "figures")
    for former in folder.glob("events.out.tfevents.*"):
        former.unlink()
    for section in page.sections:
        if section.title == SEARCH:
            from torch.utils.tensorboard import SummaryWriter  # takes seconds, which others are spared

            with SummaryWriter(str(folder)) as writer:
                for drawing in section.drawings():
                    writer.add_figure(f"search/{drawing.name}", drawing.figure, close=False)
    for kind, written in {"tex": to_tex, "md": to_markdown, "html": to_html}.items():
        (folder / f"report.{kind}").write_text(written(page), encoding="utf-8")
    return page
