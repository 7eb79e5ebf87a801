"""Show where a trained network looks: Grad-CAM overlays on images.

python -m src.explain ckpt=logs/train/runs/<run> images=photos/
"""

from pathlib import Path

import hydra
from omegaconf import DictConfig

import src.sweeps.naming  # noqa: F401  (the resolver that conf/explain.yaml uses)
from src.sweeps.command_line import plain_paths


@plain_paths("ckpt", "images", "out")
@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="explain")
def main(cfg: DictConfig) -> None:
    from src.inference.explain import explain_images
    from src.runs.errors import stop

    try:
        unreadable = explain_images(cfg)
    except Exception as error:
        stop(error, debug=cfg.debug)
    if unreadable:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
