"""Test a checkpoint again, from the checkpoint alone: it carries its configuration. Or test all runs of a sweep.

python -m src.eval ckpt=logs/train/runs/<run>
python -m src.eval ckpt=logs/train/runs/<run> tta=[none,flip,flip_shift] corruptions=true
python -m src.eval sweep=<name> tta=[none,flip]
"""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from src.runs.command import command
from src.runs.errors import errors_as_sentence
from src.runs.files import relative
from src.runs.hydra_versions import MAIN
from src.sweeps.command_line import run


@hydra.main(config_name="eval", **MAIN)
def main(cfg: DictConfig) -> float | None:
    from src.inference.evaluate import evaluate, show
    from src.inference.sweep import evaluate_sweep

    folder = relative(Path(HydraConfig.get().runtime.output_dir))
    with errors_as_sentence(debug=cfg.debug):
        if cfg.sweep:
            evaluate_sweep(cfg, folder)
            print(command("src.report", sweep=folder))
            return None
        results = evaluate(cfg, folder)
    show(results)
    print(folder / "eval.json")
    return next(row["accuracy"] for row in results["tta"] if row["name"] == results["primary"])


if __name__ == "__main__":
    run(main)
