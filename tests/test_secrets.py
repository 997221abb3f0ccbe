"""Secrets of the environment, of addresses and of known forms: in no record, manifest, log, page or message."""

import json
import sys
from multiprocessing import forkserver

import pytest

from pipeline.display import Screen
from pipeline.errors import ConfigError
from pipeline.redaction import redact, redacted, refuse_secrets
from pipeline.report import rendering

TOKEN = "hf_" + "aB3" * 10  # forms of keys, none of them real
FORMS = {
    "hub": TOKEN,
    "code host": "ghp_" + "aB3" * 12,
    "code host, new": "github_pat_" + "aB3_" * 8,
    "cloud": "AKIA" + "QWERTZUIOPASDFGH",
    "model service": "sk-proj-" + "aB3-" * 8,
    "chat": "xoxb-" + "1234567890-abc",
    "web": "eyJhbGciOiJIUzI1" + ".eyJzdWIiOiIxMjM0." + "SflKxwRJSMeKKF2QT4",
    "private key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----",
}
NAMES = [
    "WANDB_API_KEY",
    "HF_TOKEN",
    "MY_SECRET",
    "DB_PASSWORD",
    "AWS_SECRET_ACCESS_KEY",
    "SERVICE_AUTH",
    "SSH_PASSPHRASE",
]


@pytest.fixture
def hidden(monkeypatch):
    """The value of a variable that looks like a secret."""
    monkeypatch.setenv("SERVICE_TOKEN", "correct-horse-battery")
    return "correct-horse-battery"


@pytest.mark.parametrize("form", FORMS)
def test_keys_of_known_forms(form):
    shown = redact(f"before {FORMS[form]} after")
    assert shown == "before [redacted] after"


@pytest.mark.parametrize("name", NAMES)
def test_values_of_variables_whose_name_says_secret(monkeypatch, name):
    monkeypatch.setenv(name, "zYxWv-98765")
    assert redact("x=zYxWv-98765;") == f"x=[redacted: {name}];"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pass@host/a", "https://[redacted]@host/a"),
        ("s3://KEY:s+cr/et@bucket", "s3://KEY:s+cr/et@bucket"),  # a slash ends the host: this is no user
        ("git+https://token@host/a.git@v1", "git+https://[redacted]@host/a.git@v1"),
        ("api_key=abcdefgh12345", "api_key=[redacted]"),
        ('{"password": "hunter2hunter2"}', '{"password": "[redacted]"}'),
        ("--hub_token=abcdefgh1234", "--hub_token=[redacted]"),
    ],
)
def test_addresses_and_settings(text, shown):
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "hub:org/name@0123456789abcdef0123456789abcdef01234567",
        "tokens_per_second 1234567890, trained_tokens=123456789",
        "pad_token: <|endoftext|>, eos_token=<|im_end|>",
        "write to me@example.org about https://example.org/a?b=c",
        "key=value experiment=legal stages.dpo.train.beta=0.2",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ],
)
def test_what_is_no_secret_stays(text):
    assert redact(text) == text


def test_switches_short_values_and_folders_stand_in_much_else(monkeypatch, tmp_path):
    for name, value in (("A_KEY", "disabled"), ("B_TOKEN", "1234"), ("C_AUTH", str(tmp_path))):
        monkeypatch.setenv(name, value)
    assert redact(f"disabled 1234 {tmp_path}") == f"disabled 1234 {tmp_path}"


def test_all_texts_of_a_json_value(hidden):
    value = {"a": [hidden, {"b": f"x{hidden}"}, 3, None], hidden: True}
    text = json.dumps(redacted(value))
    assert hidden not in text and json.loads(text)["a"][2:] == [3, None]


def test_a_config_may_hold_none(hidden):
    refuse_secrets({"stages": {"a": {"train": {"lr": 0.1, "note": "password: at least 8 letters"}}}})
    for value in (hidden, TOKEN, "https://me:pass@host"):
        with pytest.raises(ConfigError, match=r"stages\.a\.x\[0\]: .* held a secret") as caught:
            refuse_secrets({"stages": {"a": {"x": [value]}}})
        assert value not in str(caught.value)


def test_what_is_called_a_secret_is_one():
    assert redacted({"password": "hunter2hunter2", "key": "train.beta"}) == {
        "password": "[redacted]",
        "key": "train.beta",
    }


def test_a_document_stays_a_document_whatever_is_taken_out_of_it(journeyman):
    wrong = journeyman("run", "stages.frist.seed='-----BEGIN RSA PRIVATE KEY----- MIIE'", "--json")
    assert wrong.json["exit"] == 2 and "MIIE" not in wrong.out + wrong.err


# -- where it would stand ---------------------------------------------------------------------------------------------
def test_a_run_leaves_none_anywhere(journeyman, project, hidden, monkeypatch):
    """On the command line, printed by a stage, in an error, in a folder's name: not in a single file, nor on screen."""
    monkeypatch.setattr(sys, "argv", ["journeyman", "run", f"description={hidden}", "--token", hidden])
    (project.path / "trouble.txt").write_text(f"say {hidden}")
    forkserver._forkserver._stop()  # an earlier test's has the variables of that time
    done = journeyman("run", "--json")
    assert done.code == 0, done.err
    files = [path for path in project.store.rglob("*") if path.is_file()]
    assert [str(path) for path in files if hidden.encode() in path.read_bytes()] == []
    assert hidden not in done.out + done.err
    logs = [path.read_text() for path in files if path.name == "log.txt"]
    assert any("[redacted: SERVICE_TOKEN]" in text for text in logs)
    manifests = [json.loads(path.read_text()) for path in files if path.name == "manifest.json"]
    assert all(one["argv"][-1] == "[redacted: SERVICE_TOKEN]" for one in manifests)


def test_the_screen_and_pages_show_none(hidden, capsys, tmp_path):
    Screen().say(f"it is {hidden}")
    Screen().error(f"it was {hidden}")
    rendering.replace(tmp_path / "report.html", f"<p>{hidden}</p>")
    shown = capsys.readouterr()
    assert hidden not in shown.out + shown.err + (tmp_path / "report.html").read_text()
