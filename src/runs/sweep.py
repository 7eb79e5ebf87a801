"""The beginning and the end of a multirun: what its jobs are called, and what became of them."""

from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, read_write

from src.runs.folder import RunFolder

_FACTORS = ("model", "optim", "lr_multiplier", "schedule", "aug", "label_smoothing", "seed")


class SweepSummary(Callback):
    """Name the jobs of a multirun; at its end, print a table of them and exit with 1 unless all completed."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Leave out of the jobs' folder names what is the same for all and no factor: data.root, scale, and so on.

        A factor stays even where the sweep has one level of it, so that a wider grid later finds its folder.
        """
        fixed = [
            override.key_or_group
            for override in OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
            if not override.is_sweep_override() and override.key_or_group.split(".")[0] not in _FACTORS
        ]
        # Hydra composes every job's config anew, from the overrides recorded here.
        with read_write(config):
            config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys=[{','.join(fixed)}]")

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        from rich.console import Console
        from rich.table import Table

        sweep = Path(config.hydra.sweep.dir)
        table = Table(title=str(sweep), title_justify="left", row_styles=["", "dim"])
        table.add_column("job", overflow="fold")
        table.add_column("status")
        table.add_column("test accuracy", justify="right")
        table.add_column("error", overflow="fold")
        files = sorted(sweep.glob("*/results.json"))
        overrides = [file.parent.name.split(",") for file in files]
        common = set.intersection(*map(set, overrides)) if len(files) > 1 else set()
        statuses = []
        for file, own in zip(files, overrides, strict=True):
            try:
                results = RunFolder(file.parent).results()
            except ValueError as error:
                results = {"error": str(error)}
            accuracy = results.get("metrics", {}).get("test/accuracy")
            statuses.append(results.get("status", "unknown"))
            table.add_row(
                ", ".join(override for override in own if override not in common),
                statuses[-1],
                "" if accuracy is None else f"{accuracy:.2%}",
                results.get("error") or "",
            )
        console = Console()
        console.print(table)
        done = statuses.count("completed")
        console.print(f"{done} of {len(statuses)} jobs completed. Sum it up: python -m src.report sweep={sweep.name}")
        if done < len(statuses):
            raise SystemExit(1)
