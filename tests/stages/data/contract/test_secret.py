import base64
import json
import random
import string

import pytest
from contract_scopes import chat, lines, scope_of

from stages.data.contract.secret import bits, find, secrets

LETTERS = string.ascii_letters + string.digits


def drawn(count, letters=LETTERS, seed=0):
    return "".join(random.Random(seed).choices(letters, k=count))


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


TOKENS = {  # made by chance here, so that no scanner takes this file for a leak
    "aws": "AKIA" + drawn(16, string.ascii_uppercase + "234567"),
    "github": "ghp_" + drawn(36),
    "slack": f"xoxb-{drawn(12, string.digits)}-{drawn(24)}",
    "stripe": "sk_live_" + drawn(24),
    "openai": "sk-proj-" + drawn(48),
    "anthropic": "sk-ant-api03-" + drawn(90),
    "google": "AIza" + drawn(35),
    "gitlab": "glpat-" + drawn(20),
    "jwt": f"{encoded({'alg': 'HS256'})}.{encoded({'sub': drawn(8)})}.{drawn(43)}",
}
WHOLE = {
    **TOKENS,
    "key": f"-----BEGIN RSA PRIVATE KEY-----\n{drawn(64)}\n{drawn(64, seed=1)}\n-----END RSA PRIVATE KEY-----",
}
VALUES = {
    "login": ("postgres://app:{}@db.corp.net:5432/prod", drawn(14)),
    "quoted": ('password = "{}"', drawn(10) + "!7"),
    "settings": ("DB_PASSWORD={}", drawn(14)),
    "yaml": ("api_key: {}", drawn(32, "0123456789abcdef")),
    "json": ('"client_secret": "{}"', drawn(24)),
    "prose": ("The password is {}.", "Kj8#mQ2xV"),
}
CLEAN = [
    "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxx, sk-your-key-goes-here-1, ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "AKIAIOSFODNN7EXAMPLE and wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    'api_key = "YOUR_API_KEY"; password = "password123"; secret = "changeme"; token = "<token>"',
    'password = os.environ["DB_PASSWORD"]; password = getpass.getpass(); password: ${DB_PASSWORD}',
    "The password is case-sensitive, the secret is well-kept, a 256-bit key, password: at least 8 letters",
    "postgres://user:password@localhost/db, https://example.com:8080/@name, ftp://root:root@host",
    "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----",
    "sk-folding-cube-with-a-long-name and the SKU AC-1234",
    "password=PasswordField.text; api_key=ApiKeyProvider; secret_key=SECRET_KEY_BASE",
]


@pytest.mark.parametrize("name", WHOLE)
def test_tokens_and_keys(name):
    text = f"Use {WHOLE[name]} for it."
    assert [text[span.start : span.end].strip() for span in find(text)] == [WHOLE[name]]


@pytest.mark.parametrize("name", VALUES)
def test_values_of_passwords(name):
    frame, value = VALUES[name]
    text = f"Set {frame.format(value)} and go."
    (span,) = find(text)
    assert text[span.start : span.end].rstrip(".") == value


@pytest.mark.parametrize("text", CLEAN)
def test_what_only_stands_for_one(text):
    assert find(text) == []


def test_the_finding_never_shows_the_secret():
    rows = [chat("Key?", f"It is {TOKENS['github']} today."), chat("Key?", "I have none.")]
    found = secrets(scope_of("sft", rows))
    assert lines(found) == [1] and found.marks[0].text == "It is [SECRET] today."
    assert TOKENS["github"] not in f"{found.message}{found.remedy}{found.detail}"


def test_a_password_that_was_asked_for_is_nobodys():
    answer = "Here is one: password: Kj8#mQ2xVw"
    rows = [chat("Generate a random password for me.", answer), chat("What is it?", answer)]
    assert lines(secrets(scope_of("sft", rows))) == [2]


def test_entropy_in_bits_a_letter():
    assert bits("aaaa") == 0 and bits("abcd") == 2 and bits("aabb") == 1
