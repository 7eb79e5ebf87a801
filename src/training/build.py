"""From a composed config to the objects it describes."""

import ctypes
import logging
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, StochasticWeightAveraging
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torchmetrics import Metric

from src.data.datamodule import ImageDataModule
from src.runs.folder import HIGHER_IS_BETTER, RunFolder, check_direction
from src.runs.study import open_trial
from src.runs.trust import instantiate
from src.training.callbacks.checkpoints import CheckpointFiles, Checkpoints
from src.training.callbacks.history import History
from src.training.callbacks.interrupt import InterruptCheckpoint
from src.training.callbacks.progress import ProgressBar
from src.training.callbacks.pruning import Pruning
from src.training.classifier import COMPILE_MODES, Classifier
from src.training.initial import head_of, start_from
from src.training.loggers import build_loggers

_NOT_ABOUT_THE_RUN = (
    ".*does not have many workers",  # batches come from memory
    "Total length of `list` across ranks is zero",  # no validation set
    ".*your dataloader is not resumable",  # EpochSampler is
    ".*smaller than the logging interval",
    ".*`broadcast_buffers` is deprecated",  # its successor is too new
    "GPU available but not used",  # trainer=cpu
    "The `srun` command is available",  # hydra/launcher=slurm uses it
)

log = logging.getLogger(__name__)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hide Lightning's hardware messages and tips, and the warnings in ``_NOT_ABOUT_THE_RUN``."""
    logging.getLogger("lightning").handlers.clear()  # its messages go to our handlers, not also to stderr
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # the user asked for their tables
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.pytorch\.utilities\._pytree")
        for message in _NOT_ABOUT_THE_RUN:
            warnings.filterwarnings("ignore", message=message)
        yield


def seed_of(cfg: DictConfig, source: str) -> int:
    """The seed of a source of variation in ``cfg.seeds``; ``cfg.seed`` if it is null, or the run older than this key.

    Raises:
        ValueError: it is no whole number from 0 to 2**32 - 1.
    """
    own = (cfg.get("seeds") or {}).get(source)
    key, seed = ("seed", cfg.seed) if own is None else (f"seeds.{source}", own)
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise ValueError(f"{key} is {seed!r}; expected a whole number from 0 to {2**32 - 1}.")
    return seed


def build_data(cfg: DictConfig) -> ImageDataModule:
    """The data module of ``cfg.data`` with the augmentation of ``cfg.aug``; reads the images.

    Raises:
        ValueError, OSError: a setting does not fit the data, or the data cannot be read.
    """
    seeds = {f"{source}_seed": seed_of(cfg, source) for source in ("order", "augment")}
    data: ImageDataModule = instantiate(cfg.data, aug=instantiate(cfg.aug), seed=cfg.seed, **seeds)
    if data.bits is not None:  # found in the images; later images are read in the same way
        OmegaConf.update(cfg, "data.bits", data.bits, force_add=True)
    return data


def build_network(
    model: DictConfig, num_classes: int, image_size: int, channels: int = 3, *, pretrained: bool = True
) -> nn.Module:
    """Build the backbone of a config's ``model``; of the numbers, it is passed those that it accepts.

    Args:
        channels: of the images.
        pretrained: whether weights that ``model`` asks for are fetched; they need not be if others will replace them.

    Raises:
        ValueError: the backbone does not accept a number of channels other than 3, or torch does not accept a layer
            with its settings.
    """
    own = {} if pretrained or not model.get("pretrained") else {"pretrained": False}
    offered = {"num_classes": num_classes, "image_size": image_size, "channels": channels}
    try:
        network, refused = _instantiate(model, offered, **own)
    except (ValueError, RuntimeError) as error:
        *_, last = traceback.extract_tb(error.__traceback__)
        if Path(torch.__file__).parent not in Path(last.filename).parents:  # a backbone's own check names its settings
            raise
        values = ", ".join(f"model.{key!s}={value}" for key, value in model.items() if not str(key).startswith("_"))
        raise ValueError(
            f"{model._target_} cannot be built with {values or 'its settings'}: in {last.name} torch says "
            f"“{' '.join(str(error).split()).rstrip('.')}”."
        ) from error
    if "channels" in refused and channels != 3:
        raise ValueError(f"data.channels is {channels}, but {model._target_} takes no argument channels: it expects 3.")
    return network


def _instantiate(node: DictConfig, offered: dict[str, Any], **arguments: Any) -> tuple[Any, list[str]]:
    """Build ``node`` with those ``offered`` arguments that it accepts; return also the names of the others."""
    try:
        return instantiate(node, **arguments, **offered), []
    except (TypeError, ValueError) as error:  # the latter from torchmetrics
        unexpected = "nexpected keyword argument" in str(error)
        refused = [name for name in offered if unexpected and re.search(f"['`]{name}['`]", str(error))]
        if not refused:
            raise
    built, others = _instantiate(node, {name: offered[name] for name in offered if name not in refused}, **arguments)
    return built, [*refused, *others]


def build_metrics(cfg: DictConfig, num_classes: int) -> dict[str, Metric]:
    """The metrics of ``cfg.metrics`` by name, of logits ``[B, num_classes]`` and int64 labels ``[B]``.

    Raises:
        ValueError: one is no Metric of torchmetrics, or has a name that is taken.
    """
    metrics = {}
    for name, node in (cfg.get("metrics") or {}).items():
        metrics[name], _ = _instantiate(node, {"num_classes": num_classes})
        if name in ("loss", "accuracy") or not isinstance(metrics[name], Metric):
            raise ValueError(
                f"metrics.{name} is {node}; expected a Metric of torchmetrics, not called loss or accuracy."
            )
    return metrics


def _check_directions(cfg: DictConfig, metrics: Mapping[str, Metric]) -> None:
    """Check that no setting would choose the worst epoch or trial, or end a run because it learns.

    Raises:
        ValueError: a metric that is to be low (a loss, or one of ``metrics`` that says so) is asked to be high, or the
            other way round.
    """
    higher = HIGHER_IS_BETTER | {f"val/{name}": metric.higher_is_better for name, metric in metrics.items()}
    for key, scores in {"score": [cfg.get("score", "val/accuracy")], "objectives": cfg.get("objectives") or []}.items():
        for score in scores:
            check_direction(key, str(score), higher)
    for name, node in (cfg.get("callbacks") or {}).items():
        if node is not None and node.get("monitor"):
            lightnings = str(node.get("_target_")).startswith(("src.", "lightning."))
            mode = node.get("mode", "min" if lightnings else None)
            expected = {True: "max", False: "min", None: mode}[higher.get(str(node.monitor))]
            if mode in ("min", "max") and mode != expected:
                raise ValueError(f"callbacks.{name}.mode is {mode}; expected {expected} for {node.monitor}.")


def check_score(cfg: DictConfig) -> None:
    """Check that every run of ``cfg`` has the metric that chooses its best epoch.

    Raises:
        ValueError: it has not; the message names those that it has, the most similar first.
    """
    score = str(cfg.get("score", "val/accuracy"))
    _check_logged("score", score.removeprefix("-"), cfg, "with a minus before it if lower is better ")


def _check_logged(key: str, metric: str, cfg: DictConfig, *hints: str) -> None:
    """Check that each epoch of a run of ``cfg`` has a metric of validation or, unless it is the score, of training.

    Raises:
        ValueError: it has not; the message names those that it has, the most similar first.
    """
    known = [f"val/{name}" for name in ("accuracy", "loss", *(cfg.get("metrics") or {}))]
    known += ["train/accuracy", "train/loss", "train/batch_loss", "optim/lr"] if key != "score" else []
    if metric not in known:
        near = ", ".join(get_close_matches(metric, known, n=len(known), cutoff=0))
        own = "a metric of your own comes with the group metrics"
        raise ValueError(f"{key} is {metric}, which no epoch has; expected one of {near} ({'; '.join([*hints, own])}).")


def _optimizer_factory(optim: DictConfig) -> Callable[..., torch.optim.Optimizer]:
    """Return a function from module to optimiser. A class, such as torch's own, gets the module's parameters."""
    factory = instantiate(optim, _partial_=True)
    if not isinstance(factory.func, type):
        return factory
    return lambda module, **more: factory((each for each in module.parameters() if each.requires_grad), **more)


def change_data(cfg: DictConfig, changes: Mapping[str, Any]) -> None:
    """Change settings of ``cfg.data``, whose interpolations are resolved, and of its source.

    Raises:
        ValueError: there is no such setting.
    """
    for key, value in changes.items():
        nodes = [node for node in (cfg.data, cfg.data.source) if key in node]
        if not nodes:
            raise ValueError(f"data.{key} was given, but the data that it was trained on have no such setting.")
        for node in nodes:
            node[key] = value


def build_loss(cfg: DictConfig, num_classes: int, *, mixed: bool = False) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of ``cfg.loss``, tried on two images.

    Args:
        mixed: whether labels are mixed, so that training has probabilities ``[B, num_classes]`` for them.

    Raises:
        ValueError: it does not take such arguments, or ``label_smoothing`` is out of range or not for this loss.
    """
    before = {"_target_": "torch.nn.CrossEntropyLoss", "label_smoothing": cfg.get("label_smoothing", 0.0)}
    node = cfg.get("loss") or before  # the group was there
    smoothing = node.get("label_smoothing", 0)
    if not (type(smoothing) in (int, float) and 0 <= smoothing <= 1):
        raise ValueError(f"loss.label_smoothing is {smoothing!r}; expected 0 to 1.")
    if (other := cfg.get("label_smoothing")) not in (None, 0, smoothing):
        raise ValueError(f"label_smoothing is {other}, which {node.get('_target_')} does not get: set it in loss.")
    loss = instantiate(node)
    if any(parameter.requires_grad for parameter in getattr(loss, "parameters", list)()):
        raise ValueError(f"The loss {node['_target_']} has parameters, which nothing trains; expected one without.")
    kinds = {"int64 labels [B]": torch.arange(2)}
    if mixed:
        kinds[f"(this aug mixes labels) float probabilities [B, {num_classes}]"] = torch.eye(num_classes)[:2]
    for words, labels in kinds.items():
        try:
            value = deepcopy(loss)(torch.zeros(2, num_classes), labels)
            problem = "" if isinstance(value, Tensor) and value.ndim == 0 else f"it returned {value!r}"
        except Exception as error:
            problem = f"it raised: {error}"
        if problem:
            raise ValueError(
                f"The loss {node['_target_']} should take float logits [B, {num_classes}] and {words} to a scalar "
                f"tensor; {problem.rstrip('.')}."
            )
    return loss


def build_classifier(cfg: DictConfig, data: ImageDataModule, *, resumed: bool = False) -> Classifier:
    """The backbone of ``cfg.model``, initialised from torch's global generator or ``cfg.init_from``, in its
    LightningModule.

    Args:
        resumed: whether a checkpoint will replace the initial weights, so that none are fetched.

    Raises:
        ValueError, FileNotFoundError: a setting is out of its range, the backbone does not admit images of this size,
            or ``init_from`` does not fit it.
    """
    network = build_network(cfg.model, len(data.classes), data.image_size, data.channels, pretrained=not resumed)
    if cfg.get("init_from") and not resumed:
        start_from(network, Path(cfg.init_from))
    if (freeze := cfg.get("freeze")) not in (None, "backbone"):
        raise ValueError(f"freeze is {freeze!r}; expected backbone, to train the head only, or null.")
    head = head_of(network) if freeze else ""
    if freeze:
        log.info("freeze=backbone: only %s is trained", head)
    metrics = build_metrics(cfg, len(data.classes))
    _check_directions(cfg, metrics)
    return Classifier(
        network,
        trained=head,
        optimizer=_optimizer_factory(cfg.optim),
        schedule=instantiate(cfg.schedule),
        classes=data.classes,
        image_size=data.image_size,
        seed=cfg.seed,
        loss=build_loss(cfg, len(data.classes), mixed=data.aug.mixing is not None),
        metrics=metrics,
        channels_last=cfg.channels_last,
        compile=cfg.compile,
        config=OmegaConf.to_container(cfg, resolve=True),  # type: ignore[arg-type]
    )


def _on_gpu(cfg: DictConfig) -> bool:
    """Whether ``cfg.trainer`` trains on a GPU."""
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    return has_gpu and cfg.trainer.accelerator != "cpu"


def process_count(cfg: DictConfig) -> int:
    """The number of processes that train together, on all machines: one per device of ``cfg.trainer.devices``.

    Raises:
        ValueError: that number is unknown, exceeds the devices here, or does not divide ``cfg.data.batch_size``.
    """
    devices = cfg.trainer.get("devices", 1)
    if devices in ("auto", -1):
        if not _on_gpu(cfg):
            raise ValueError("trainer.devices is auto, but there is no GPU to count: set trainer.devices=2, or more.")
        devices = max(1, torch.cuda.device_count())
    elif not isinstance(devices, int):
        devices = len(devices)
    if devices < 1 or (devices > 1 and _on_gpu(cfg) and devices > torch.cuda.device_count()):
        have = f"; torch finds {torch.cuda.device_count()} GPUs here" if _on_gpu(cfg) else ""
        raise ValueError(f"trainer.devices is {cfg.trainer.devices}; expected 1 or more{have}.")
    processes = devices * cfg.trainer.get("num_nodes", 1)
    batch_size = cfg.data.batch_size
    if processes > 1 and batch_size % processes:
        lower = batch_size // processes * processes
        raise ValueError(
            f"data.batch_size is {batch_size}, the images of one step, which {processes} processes cannot share "
            f"equally; choose a multiple of {processes}, such as {lower or processes}."
        )
    return processes


def check_trainer(cfg: DictConfig) -> None:
    """Check the settings for which Lightning has no clear error message.

    Raises:
        ValueError: ``cfg.trainer`` requests a device or precision that this machine does not have, no epochs, or to
            accumulate gradients that CUDA graphs overwrite.
    """
    if cfg.trainer.accelerator in ("gpu", "cuda", "mps") and not _on_gpu(cfg):
        raise ValueError(
            f"trainer.accelerator is {cfg.trainer.accelerator}, but torch finds no GPU here; "
            "use trainer=cpu or trainer=auto."
        )
    if not _on_gpu(cfg) and str(cfg.trainer.precision) in ("16-mixed", "16"):  # Lightning would use bf16-mixed
        raise ValueError("trainer.precision is 16-mixed, which needs a GPU; use bf16-mixed on the CPU.")
    group = cfg.trainer.get("accumulate_grad_batches")
    if _on_gpu(cfg) and group not in (None, 1) and cfg.get("compile") in COMPILE_MODES:  # pytorch issue 169545
        raise ValueError(
            f"trainer.accumulate_grad_batches is {group} and compile is {cfg.compile}: with its CUDA graphs, a batch "
            "overwrites the gradients of the batch before it; use compile=true."
        )
    for name in ("max_epochs", "log_every_n_steps"):
        value = cfg.trainer[name]
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"trainer.{name} is {value!r}; expected a whole number, 1 or more.")


def build_trainer(cfg: DictConfig, **settings: Any) -> L.Trainer:
    """The trainer of ``cfg.trainer``.

    Raises:
        ValueError: see ``check_trainer``.
    """
    check_trainer(cfg)
    processes = process_count(cfg)
    # BatchNorm statistics must agree between processes only when they are used: see Classifier.
    strategy = DDPStrategy(broadcast_buffers=False) if processes > 1 else "auto"
    sync_batchnorm = processes > 1 and bool(cfg.trainer.get("sync_batchnorm")) and _on_gpu(cfg)
    own = {"strategy": strategy, "use_distributed_sampler": False} | settings
    for name in own:
        if cfg.trainer.get(name) is not None:
            raise ValueError(
                f"trainer.{name} cannot be chosen, as a run sets it itself: callbacks and loggers come from the groups "
                "of these names, the strategy follows trainer.devices, and files are kept in the run folder."
            )
    _keep_memory()
    # With deterministic algorithms torch would also fill all newly allocated memory, which costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision("high")  # TF32 where a GPU has it; no effect on the CPU
    return instantiate(cfg.trainer, sync_batchnorm=sync_batchnorm, **own)


def _keep_memory() -> None:
    """Make glibc keep freed memory for the next step instead of returning it to the system.

    On the CPU, activations are freed in every step. By default glibc maps blocks of that size anew each time, and the
    kernel clears them page by page. Other C libraries have no ``mallopt`` and are not changed.
    """
    with suppress(AttributeError, OSError, TypeError):  # TypeError: Windows cannot open "this program"
        mallopt = ctypes.CDLL(None).mallopt
        m_trim_threshold, m_mmap_max = -1, -4
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, -1)


def build_run_trainer(cfg: DictConfig, folder: RunFolder, validates: bool) -> tuple[L.Trainer, History]:
    """Build the trainer of a run that is recorded in ``folder``, and the callback with its history.

    Args:
        validates: whether there is a validation set. The best epoch has the highest score; without a validation
            set it is the last epoch.

    Raises:
        ValueError: see ``check_trainer``, ``check_score`` and ``Checkpoints``; or there is a validation set that some
            epoch would not use.
    """
    usual = {"max_steps": -1, "check_val_every_n_epoch": 1, "val_check_interval": 1.0}  # 1: after every batch
    for name, value in usual.items():
        if validates and cfg.trainer.get(name) is not None and repr(cfg.trainer[name]) != repr(value):
            raise ValueError(
                f"trainer.{name} is {cfg.trainer[name]!r}: an epoch might be validated before its end or not at all, "
                "while the best one is chosen by this; leave it out, or choose none with data.val_size=0."
            )
    for name in ("limit_train_batches", "limit_val_batches", "limit_test_batches"):
        if cfg.trainer.get(name) == 0:
            raise ValueError(f"trainer.{name} is 0; expected at least one batch, or null for all.")
    if not (validates or cfg.get("test", True)):
        raise ValueError("test=false and data.val_size=0: nothing would be measured; set data.val_size=0.1.")
    check_score(cfg)
    history = History(folder.metrics_file)
    files = CheckpointFiles(folder)
    score = cfg.get("score", "val/accuracy") if validates else None
    checkpoints = Checkpoints(files, score, cfg.get("checkpoint_minutes"))
    nodes = [*(cfg.get("callbacks") or {}).values(), cfg.get("average") or None]
    watchers = [instantiate(node) for node in nodes if node is not None]
    if not validates and any(isinstance(watcher, EarlyStopping) for watcher in watchers):
        raise ValueError("Early stopping needs validation images, and data.val_size is 0: set data.val_size=0.1.")
    if all(type(watcher).__module__.startswith(("src.", "lightning.")) for watcher in watchers):  # others may log more
        for watcher in watchers:
            if isinstance(watcher, EarlyStopping):
                _check_logged("monitor of the early stopping", watcher.monitor, cfg)
    if any(isinstance(watcher, StochasticWeightAveraging) for watcher in watchers):
        raise ValueError(
            "StochasticWeightAveraging puts its average in place once all epochs are validated and saved, so that no "
            "one would test it: use lightning.pytorch.callbacks.WeightAveraging or EMAWeightAveraging."
        )
    if cfg.get("pruner") and cfg.get("tuner") and cfg.tuner.trial is not None and not cfg.resume:
        alone = rank_zero_only(open_trial)(folder.path.parent, cfg.tuner.trial, pruner=cfg.pruner)
        watchers.append(Pruning(alone, history, cfg.score))
    trainer = build_trainer(
        cfg,
        default_root_dir=folder.path,
        logger=build_loggers(cfg, folder),
        enable_progress_bar=any(isinstance(watcher, ProgressBar) for watcher in watchers),
        callbacks=[*watchers, history, InterruptCheckpoint(folder.last), checkpoints],
        plugins=[files],
    )
    return trainer, history
