"""Say what a trained network sees in images.

python -m src.predict ckpt=logs/train/runs/<run> images=photos
python -m src.predict ckpt=logs/train/runs/<run> images='photos/*.jpg' tta=flip out=predictions.csv
"""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from src.sweeps.command_line import plain_paths


@plain_paths("ckpt", "images", "out")
@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="predict")
def main(cfg: DictConfig) -> None:
    from src.inference.predict import predict
    from src.runs.errors import stop

    try:
        unreadable = predict(cfg)
    except Exception as error:
        stop(error, debug=cfg.debug)
    if unreadable:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
