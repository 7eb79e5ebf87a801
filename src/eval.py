"""Test a checkpoint again, from the checkpoint alone: it carries its configuration.

python -m src.eval ckpt=logs/train/runs/<run>
python -m src.eval ckpt=logs/train/runs/<run> tta=[none,flip,flip_shift] corruptions=true
"""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from src.runs.errors import errors_as_sentence
from src.runs.files import relative
from src.runs.hydra_versions import MAIN
from src.sweeps.command_line import run


@hydra.main(config_name="eval", **MAIN)
def main(cfg: DictConfig) -> float:
    from src.inference.evaluate import evaluate, show

    folder = relative(Path(HydraConfig.get().runtime.output_dir))
    with errors_as_sentence(debug=cfg.debug):
        results = evaluate(cfg, folder)
    show(results)
    print(folder / "eval.json")
    return next(row["accuracy"] for row in results["tta"] if row["name"] == results["primary"])


if __name__ == "__main__":
    run(main)
