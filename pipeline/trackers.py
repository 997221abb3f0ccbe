"""Trackers that an experiment may name: what must be there before the first stage starts."""

import os
from contextlib import suppress
from importlib.util import find_spec
from netrc import NetrcParseError, netrc
from urllib.parse import urlsplit

from pipeline.errors import ConfigError
from pipeline.schema import Tracker

TRACKERS = ("wandb", "tensorboard", "mlflow", "none")


def require(tracker: Tracker) -> None:
    """ConfigError where the tracker's package is missing or, with mode=online, where nobody said to what service."""
    if tracker.kind == "none":
        return
    if find_spec(tracker.kind) is None:
        raise ConfigError(
            f"tracker.kind={tracker.kind} needs a package: pip install 'journeyman[{tracker.kind}]'; "
            "tracker=none does without"
        )
    if tracker.mode == "online":
        _require_service(tracker.kind)


def _require_service(kind: str) -> None:
    if kind == "tensorboard":
        raise ConfigError("tracker.mode=online: TensorBoard is no service, it reads files; leave tracker.mode=offline")
    if kind == "mlflow" and "://" not in os.environ.get("MLFLOW_TRACKING_URI", ""):
        raise ConfigError("tracker.mode=online needs the address of a server: set MLFLOW_TRACKING_URI=https://...")
    if kind == "wandb" and not _has_wandb_key():
        raise ConfigError("tracker.mode=online needs a key: run `wandb login` or set WANDB_API_KEY")


def _has_wandb_key() -> bool:
    """In the environment, or where `wandb login` puts it."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    with suppress(OSError, NetrcParseError):
        return netrc(os.path.expanduser(os.environ.get("NETRC", "~/.netrc"))).authenticators(host) is not None
    return False
