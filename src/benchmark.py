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
    from rich.markdown import Markdown
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from src.benchmarks import page
    from src.benchmarks.measure import Row, Schedule, machine
    from src.benchmarks.parts import parts
    from src.benchmarks.training import pace
    from src.runs.errors import stop
    from src.runs.files import relative
    from src.runs.folder import write_json
    from src.training.callbacks.interrupt import Interrupted

    folder = relative(Path(HydraConfig.get().runtime.output_dir))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    rows: list[Row] = []
    try:
        schedule = Schedule(parts(cfg), cfg.repeats, cfg.minutes, pace(cfg.device))
        print(f"This will take {schedule.estimate()}.", file=sys.stderr, flush=True)
        what_ran = machine(cfg.device)
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("")
            for part, turns in schedule:
                doing = f"{part.what}; then {schedule.estimate()}"
                progress.update(task, description=doing)
                if not progress.console.is_terminal:  # which shows no progress
                    print(doing, file=sys.stderr, flush=True)
                rows += part.measure(turns)
                # Saved at once, so that a later failure does not lose these results.
                missing = [other.what for other in schedule.unmeasured]
                measured = {"machine": what_ran, "minutes": cfg.minutes, "unmeasured": missing}
                write_json(folder / "benchmark.json", measured | {"rows": [row.to_json() for row in rows]})
                text = page.markdown(rows, what_ran, missing)
                (folder / "benchmark.md").write_text(text, encoding="utf-8")
                if any(row.against for row in rows):
                    page.draw(rows).savefig(folder / "ratios.png")
        if not rows:
            raise ValueError(f"minutes is {cfg.minutes}, which is too little for any part; allow more, or null.")
    except (KeyboardInterrupt, SystemExit, Interrupted):  # before, after and while the Trainer works
        kept = f"what was measured is in {folder}" if rows else "nothing was measured yet"
        print(f"Interrupted: {kept}.", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        if rows:
            print(f"What was measured before is in {folder}.", file=sys.stderr)
        stop(error, debug=cfg.debug)
    console = Console(width=None if sys.stdout.isatty() else 200)  # do not wrap lines in a log file
    console.print(Markdown(text))
    console.print(str(folder), soft_wrap=True)


if __name__ == "__main__":
    run(main)
