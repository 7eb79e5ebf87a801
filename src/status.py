"""What has become of each job of a sweep, and the command that finishes it.

python -m src.status sweep=optimizers
"""

from collections import Counter

import hydra
from omegaconf import DictConfig

from src.runs.errors import errors_as_sentence
from src.runs.hydra_versions import MAIN
from src.sweeps.command_line import run


@hydra.main(config_name="status", **MAIN)
def main(cfg: DictConfig) -> None:
    from src.runs.command import command
    from src.sweeps.jobs import find_sweep, how_to_finish, jobs, known_sweeps, place, show

    with errors_as_sentence(debug=cfg.debug):
        if cfg.sweep is None:
            raise ValueError(f"Name a sweep, python -m src.status sweep=NAME; {known_sweeps()}.")
        sweep = find_sweep(str(cfg.sweep))
        found = jobs(sweep)
    show(sweep, found, everything=cfg.all)
    states = Counter(job.state for job in found)
    print(", ".join(f"{count} {state}" for state, count in states.most_common()) or "no jobs")
    if finish := how_to_finish(sweep, found):
        print(finish)
    if states["completed"]:
        print(f"To sum it up: {command('src.report', sweep=place(sweep))}")


if __name__ == "__main__":
    run(main)
