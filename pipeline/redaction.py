"""Secrets stay out of what is written down: records, manifests, logs, pages, the terminal."""

import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pipeline.errors import ConfigError

SECRET_NAME = re.compile(
    r"(?:^|_)(?:\w*KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PWD|CREDENTIALS?|AUTH|COOKIE)(?:_|$)", re.IGNORECASE
)
SHORTEST = 8  # letters of a variable's value that count as a secret; shorter ones stand in ordinary words
FORMS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[\w-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{35}|xox[abeoprs]-[\w-]{10,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
    re.DOTALL,
)
USERINFO = re.compile(r"(://)[^/\s@?#'\",<>]+@")
SETTING = re.compile(
    r"(?i)\b((?:\w+[_.-])?(?:api[_-]?key|access[_-]?key|secret(?:[_-]?key)?|password|passwd|"
    r"(?:hub|hf|auth|access|api)[_-]?token)[\"']?\s*[=:]\s*[\"']?)([^\s\"',;&]{8,})"
)
GONE = "[redacted]"


def redact(text: str, variables: Mapping[str, str] | None = None) -> str:
    """The text without values of secret environment variables, keys of known forms, and users of addresses.

    `variables`: those that are known already, value -> name; else they are looked up.
    """
    certain = _certain(text, _variables() if variables is None else variables)
    return SETTING.sub(lambda found: found[0] if found[2].startswith("[redacted") else found[1] + GONE, certain)


def _certain(text: str, variables: Mapping[str, str]) -> str:
    """Without what is a secret for sure, not only by the word before it."""
    for value, name in variables.items():
        if value in text:
            text = text.replace(value, f"[redacted: {name}]")
    return FORMS.sub(GONE, USERINFO.sub(rf"\1{GONE}@", text))


def redacted(value: Any) -> Any:
    """A JSON value with every text in it redacted, keys included."""
    return _redacted(value, _variables())


def _redacted(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return redact(value, variables)
    if isinstance(value, Mapping):
        return {
            redact(key, variables) if isinstance(key, str) else key: _named(key, item, variables)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_redacted(item, variables) for item in value]
    return value


def _named(key: Any, item: Any, variables: Mapping[str, str]) -> Any:
    """The item under this key: a text is a secret also for what it is called."""
    return GONE if isinstance(item, str) and SETTING.fullmatch(f"{key}={item}") else _redacted(item, variables)


def refuse_secrets(value: Any) -> None:
    """ConfigError for a secret in a config: it would be part of an id and stand in every record."""
    _refuse(value, "", _variables())


def _refuse(value: Any, where: str, variables: Mapping[str, str]) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse(item, f"{where}.{key}" if where else str(key), variables)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _refuse(item, f"{where}[{i}]", variables)
    elif isinstance(value, str) and (shown := _certain(value, variables)) != value:
        raise ConfigError(f"{where}: '{shown}' held a secret, and configs are recorded; give it in the environment")


def _variables() -> dict[str, str]:
    """value -> name of each environment variable that looks like a secret, the longest first."""
    found = [(value, name) for name, value in _suspects() if len(value) >= SHORTEST and not _is_word(value)]
    return dict(sorted(found, key=lambda pair: -len(pair[0])))


def _suspects() -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in os.environ.items() if _secret_name(name))


@cache
def _secret_name(name: str) -> bool:
    return SECRET_NAME.search(name) is not None and name != "PWD" and name != "OLDPWD"


def _is_word(value: str) -> bool:
    """Whether a value is a switch such as `disabled`, or a folder, which stand in much else."""
    return (value.isalpha() and len(value) < 12) or (value.startswith("/") and os.path.exists(value))
