"""The end of a multirun: what became of its jobs."""

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from src.runs.folder import RunFolder


class SweepSummary(Callback):
    """Print a table of a multirun's jobs and exit with 1 unless all of them completed."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        from rich.console import Console
        from rich.table import Table

        sweep = Path(config.hydra.sweep.dir)
        table = Table(title=str(sweep), title_justify="left", row_styles=["", "dim"])
        table.add_column("job", overflow="fold")
        table.add_column("status")
        table.add_column("test accuracy", justify="right")
        table.add_column("error", overflow="fold")
        statuses = []
        for file in sorted(sweep.glob("*/results.json")):
            try:
                results = RunFolder(file.parent).results()
            except ValueError as error:
                results = {"error": str(error)}
            accuracy = results.get("metrics", {}).get("test/accuracy")
            statuses.append(results.get("status", "unknown"))
            table.add_row(
                file.parent.name,
                statuses[-1],
                "" if accuracy is None else f"{accuracy:.2%}",
                results.get("error") or "",
            )
        console = Console()
        console.print(table)
        done = statuses.count("completed")
        console.print(f"{done} of {len(statuses)} jobs completed.")
        if done < len(statuses):
            raise SystemExit(1)
