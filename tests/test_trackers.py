"""What a tracker needs is missed before the first stage starts: a package, and with mode=online a service and a key."""

import pytest

from pipeline import trackers
from pipeline.errors import ConfigError
from pipeline.schema import Tracker
from pipeline.trackers import require


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """An environment and a home in which no service and no key is named; every tracker's package is there."""
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL", "MLFLOW_TRACKING_URI", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(trackers, "find_spec", lambda name: object())
    return tmp_path


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, kind):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf"pip install 'journeyman\[{kind}\]'; tracker=none does without"):
        require(Tracker(kind=kind))
    require(Tracker(kind="none"))


def test_offline_needs_neither_service_nor_key(bare):
    for kind in trackers.TRACKERS:
        require(Tracker(kind=kind))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("wandb", "needs a key: run `wandb login` or set WANDB_API_KEY"),
        ("mlflow", "set MLFLOW_TRACKING_URI"),
        ("tensorboard", "TensorBoard is no service"),
    ],
)
def test_online_without_a_service_says_what_to_do(bare, kind, message):
    with pytest.raises(ConfigError, match=message):
        require(Tracker(kind=kind, mode="online"))


def test_online_with_a_key_in_the_environment(bare, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    require(Tracker(kind="wandb", mode="online"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://tracking.example.org")
    require(Tracker(kind="mlflow", mode="online"))


def test_online_with_the_key_that_wandb_login_wrote(bare, monkeypatch):
    (bare / ".netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {'0' * 40}\n")
    (bare / ".netrc").chmod(0o600)
    require(Tracker(kind="wandb", mode="online"))
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    with pytest.raises(ConfigError, match="needs a key"):
        require(Tracker(kind="wandb", mode="online"))


def test_nothing_is_built_before_the_tracker_is_there(journeyman, project, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    for verb in ("plan", "run"):
        done = journeyman(verb, "tracker=mlflow")
        assert done.code == 2 and "journeyman[mlflow]" in done.err
    assert not (project.store / "artifacts").exists()
    assert journeyman("status", "tracker=mlflow").code == 0
    assert journeyman("run", "tracker=none").code == 0
    assert journeyman("run", "tracker=mlflow").code == 0  # nothing is left to train
