"""How fast this machine trains, beside what people would use instead: a table, with the spread of every figure.

python -m src.benchmark
python -m src.benchmark benchmark=quick
python -m src.benchmark rows=[training] models=[resnet10]
"""

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from src.runs.hydra_versions import MAIN
from src.sweeps.command_line import run


@hydra.main(config_name="benchmark", **MAIN)
def main(cfg: DictConfig) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from src.benchmarks import page
    from src.benchmarks.measure import Row, machine
    from src.benchmarks.parts import parts
    from src.runs.errors import stop
    from src.runs.folder import write_json
    from src.training.callbacks.interrupt import Interrupted

    folder = Path(HydraConfig.get().runtime.output_dir)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    rows: list[Row] = []
    try:
        wanted = parts(cfg)
        what_ran = machine(cfg.device)
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("", total=sum(part.turns for part in wanted))
            for part in wanted:
                progress.update(task, description=part.what)
                if not progress.console.is_terminal:  # which shows no bar
                    print(part.what, file=sys.stderr, flush=True)
                rows += part.measure(lambda: progress.advance(task))
                # Saved at once, so that a later failure does not lose these results.
                write_json(folder / "benchmark.json", {"machine": what_ran, "rows": [row.to_json() for row in rows]})
                (folder / "benchmark.md").write_text(page.markdown(rows, what_ran), encoding="utf-8")
                if any(row.against for row in rows):
                    page.draw(rows).savefig(folder / "ratios.png")
    except (KeyboardInterrupt, SystemExit, Interrupted):  # before, after and while the Trainer works
        kept = f"what was measured is in {folder}" if rows else "nothing was measured yet"
        print(f"Interrupted: {kept}.", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        if rows:
            print(f"What was measured before is in {folder}.", file=sys.stderr)
        stop(error, debug=cfg.debug)
    console = Console(width=None if sys.stdout.isatty() else 200)  # do not wrap lines in a log file
    console.print(page.table(rows, ", ".join(f"{name} {value}" for name, value in what_ran.items())))
    console.print(str(folder), soft_wrap=True)


if __name__ == "__main__":
    run(main)
