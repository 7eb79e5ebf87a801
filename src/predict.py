"""Say what a trained network sees in images.

python -m src.predict ckpt=logs/train/runs/<run> images=photos
python -m src.predict ckpt=logs/train/runs/<run> images='photos/*.jpg' tta=flip out=predictions.csv
"""

import hydra
from omegaconf import DictConfig

from src.runs.errors import errors_as_sentence
from src.runs.hydra_versions import MAIN
from src.sweeps.command_line import run


@hydra.main(config_name="predict", **MAIN)
def main(cfg: DictConfig) -> None:
    from src.inference.predict import predict

    with errors_as_sentence(debug=cfg.debug):
        unreadable = predict(cfg)
    if unreadable:
        raise SystemExit(1)


if __name__ == "__main__":
    run(main)
