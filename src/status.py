"""What has become of each job of a sweep, and the command that finishes it.

python -m src.status sweep=optimizers
"""

from collections import Counter
from pathlib import Path

import hydra
from omegaconf import DictConfig

from src.sweeps.command_line import plain_paths


@plain_paths("sweep")
@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="status")
def main(cfg: DictConfig) -> None:
    from src.runs.errors import stop
    from src.sweeps.jobs import commands, find_sweep, jobs, known_sweeps, show

    try:
        if cfg.sweep is None:
            raise ValueError(f"Name a sweep, python -m src.status sweep=<name>; {known_sweeps()}.")
        sweep = find_sweep(str(cfg.sweep))
        found = jobs(sweep)
    except Exception as error:
        stop(error, debug=cfg.debug)
    show(sweep, found)
    states = Counter(job.state for job in found)
    print(", ".join(f"{count} {state}" for state, count in states.most_common()) or "no jobs")
    for command in commands(sweep):
        print(f"To finish it: {command}")
    if states["completed"]:
        print(f"To sum it up: python -m src.report sweep={cfg.sweep}")


if __name__ == "__main__":
    main()
