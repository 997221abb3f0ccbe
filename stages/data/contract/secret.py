"""Passwords, keys and tokens in texts: patterns of detect-secrets, of newer services, and values of a password.

What counts is the form, and that it looks drawn by chance. What says itself that it only stands for one does not:
`sk-xxxx`, `YOUR_API_KEY`, `AKIA...EXAMPLE`, the passwords of tutorials.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from math import log2

from stages.data.contract.spans import Hit, Span, disjoint, hidden, hits, requests, told
from stages.data.contract.view import Found, Item, Mark, Scope, share

SERVICES = (  # (letters of which one is in every such token, its form)
    (("sk-",), r"(?<![\w-])sk-(?=[\w-]*\d)[\w-]{20,}"),  # OpenAI, Anthropic, OpenRouter
    (("sk_", "rk_"), r"(?<![\w-])[sr]k_(?:live|test)_[0-9a-zA-Z]{16,}"),  # Stripe
    (("whsec_",), r"whsec_[0-9a-zA-Z]{24,}"),
    (("AIza",), r"(?<!\w)AIza[\w-]{35}"),  # Google
    (("GOCSPX-",), r"GOCSPX-[\w-]{28}"),
    (("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"(?<!\w)gh[pousr]_[A-Za-z0-9]{36,}"),
    (("github_pat_",), r"github_pat_\w{40,}"),
    (("xox",), r"(?<!\w)xox[abposre]-[\w-]{10,}"),  # Slack
    (("hooks.slack.com",), r"https://hooks\.slack\.com/services/T\w+/B\w+/\w+"),
    (("eyJ",), r"(?<![\w.-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{10,}"),  # JSON Web Token
    (("hf_",), r"(?<!\w)hf_[a-zA-Z0-9]{30,}"),
    (("npm_",), r"(?<!\w)npm_[A-Za-z0-9]{36}"),
    (("SG.",), r"(?<!\w)SG\.[\w-]{16,}\.[\w-]{16,}"),  # SendGrid
)
DETECTORS = (  # (letters of which one is in every such token, detector of detect-secrets)
    (("AKIA", "ASIA", "ABIA", "ACCA", "A3T", "aws", "AWS"), "aws.AWSKeyDetector"),
    (("AccountKey=",), "azure_storage_key.AzureStorageKeyDetector"),
    (("glpat-", "gldt-", "glft-", "glrt-", "GR1348941", "glcbt-", "glptt-"), "gitlab_token.GitLabTokenDetector"),
    (("-us",), "mailchimp.MailchimpDetector"),
    (("pypi-",), "pypi_token.PypiTokenDetector"),
    (("sq0csp-",), "square_oauth.SquareOAuthDetector"),
    ((":AA",), "telegram_token.TelegramBotTokenDetector"),
    (("AC", "SK"), "twilio.TwilioKeyDetector"),
)
PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\\n|\s|[\w-]+: [^\n]*\n)*"
    r"[A-Za-z0-9+/=]{16,}(?:[A-Za-z0-9+/=\s]|\\n)*(?:-----END [A-Z0-9 ]+-----)?"
)
LOGIN = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://([^\s:/?#@'\"`<>]*):([^\s/@'\"`<>]{3,})@[\w.-]+", re.I)
NAMING = (  # letters of which one is in every name in ASSIGNED
    *("assw", "ASSW", "assphrase", "pwd", "PWD", "ecret", "ECRET", "oken", "OKEN", "api", "API", "Api"),
    *("ccess_key", "ccess-key", "ccesskey", "ccessKey", "CCESS_KEY", "uth_key", "uth-key", "uthkey", "uthKey"),
    *("UTH_KEY", "ivate_key", "ivate-key", "ivatekey", "ivateKey", "IVATE_KEY"),
)  # fmt: skip
ASSIGNED = re.compile(
    r"(?:pass(?:word|wd|phrase)|pwd|secret(?:[_-]?access)?(?:[_-]?key)?|api[_ -]?(?:key|secret)|"
    r"access[_-]?(?:key|token)|auth[_-]?(?:key|token)|client[_-]?secret|private[_-]?key|bearer[_-]?token)"
    r"[\"'`*]{0,3}\]?\s{0,2}(?:[:=]|:=|=>|\bis\b:?)\s{0,2}([\"'`*]{0,3})([^\s\"'`<>,;]{8,200})",
    re.I,
)
STAND_IN = re.compile(
    r"x{4,}|\*{3,}|\.{3}|…|_{4,}|(.)\1{4,}|your|example|placeholder|dummy|sample|insert|replace|change_?me|"
    r"redacted|here$",
    re.I,
)
TUTORIAL = re.compile(
    r"p[a@4][s$]{2}|s[e3]cr[e3]t|1234|abcd|qwerty|test|foobar|fake|token|hunter2|letmein|welcome|my[_-]|admin|string",
    re.I,
)
EXPRESSION = re.compile(r"[(){}\[\]|\\]|://|->|^(?:self|this|os|process|config|env|request|args|settings)\.")
PATH = re.compile(r"[$%/~.@&-]")
PARTS = re.compile(r"[_.,:;*!?'’/-]+")
WORD = re.compile(r"\d*(?:[^\W\d_]?[a-zß-öø-ÿ]+|[A-Z]+|[a-z]*(?:[A-Z][a-z]+)+)\d{0,2}|\d+")
WANTED = re.compile(
    r"\b(?:generate|create|make|suggest|invent|give|write|come up with|random|strong|secure|example|sample)\b"
    r"[^.!?\n]{0,40}\b(?:passwords?|passphrases?|api keys?|tokens?|private keys?)\b",
    re.I,
)
KINDS_OF_LETTER = [re.compile(pattern) for pattern in ("[a-z]", "[A-Z]", "[0-9]", "[^a-zA-Z0-9]")]
RANDOM = 2.9  # bits a letter from which a string is no word
PLAIN = frozenset(
    ["pwd", "root", "user", "username", "postgres", "guest", "mysql", "mongo", "rabbitmq", "redis", "default"]
)


@cache
def _patterns() -> tuple[tuple[tuple[str, ...], re.Pattern[str]], ...]:
    """(letters of which a match has one, pattern)."""
    found = [(hints, re.compile(pattern)) for hints, pattern in SERVICES]
    for hints, name in DETECTORS:
        module, detector = name.split(".")
        listed = getattr(import_module(f"detect_secrets.plugins.{module}"), detector).denylist
        found += [(hints, pattern) for pattern in listed]
    return tuple(found)


def find(text: str) -> list[Span]:
    """Secrets in order of place."""
    found = [*_keys(text), *_tokens(text), *_logins(text), *_assigned(text)]
    return disjoint(found) if found else found


def _keys(text: str) -> Iterator[Span]:
    if "PRIVATE KEY" in text:
        for match in PRIVATE_KEY.finditer(text):
            yield Span("secret", match.start(), match.end())


def _tokens(text: str) -> Iterator[Span]:
    for hints, pattern in _patterns():
        if any(hint in text for hint in hints):
            for match in pattern.finditer(text):
                whole = match.group()
                if not STAND_IN.search(whole) and bits(whole) >= RANDOM:
                    yield Span("secret", match.start(), match.end())


def _logins(text: str) -> Iterator[Span]:
    if "://" in text and "@" in text:
        for match in LOGIN.finditer(text):
            user, value = match.group(1), match.group(2)
            known = value.lower() in PLAIN or value == user or value.isdigit()
            if not (known or STAND_IN.search(value) or TUTORIAL.search(value) or EXPRESSION.search(value)):
                yield Span("secret", match.start(2), match.end(2))


def _assigned(text: str) -> Iterator[Span]:
    if any(name in text for name in NAMING):
        for match in ASSIGNED.finditer(text):
            if _drawn(match.group(2).rstrip(".!?:*"), quoted=bool(match.group(1))):
                yield Span("secret", match.start(2), match.end(2))


def _drawn(value: str, quoted: bool) -> bool:
    """Whether a value looks like a real one: no words, no expression, no stand-in, of several kinds of letters."""
    if any(pattern.search(value) for pattern in (STAND_IN, TUTORIAL, EXPRESSION)) or _are_words(value):
        return False
    if PATH.match(value) and not quoted and len(value) < 12:
        return False
    kinds = sum(bool(pattern.search(value)) for pattern in KINDS_OF_LETTER)
    return bits(value) >= RANDOM and kinds >= (2 if quoted or len(value) >= 14 else 3)


def _are_words(value: str) -> bool:
    """snake_case, CamelCase, kebab-case, CAPITALS, path/to/words, 256-bit."""
    return all(WORD.fullmatch(part) for part in PARTS.split(value) if part)


def _is_wanted(prompt: str) -> bool:
    """A prompt that asks for a new password or key, and holds none: the answer is nobody's."""
    return bool(WANTED.search(prompt)) and not find(prompt)


def hidden_values(items: Sequence[Item], scope: Scope) -> list[Hit | None]:
    """The secrets of each item, but for the one that its prompt asks for."""
    return [
        hit if hit and not _is_wanted(requests(item)) else None
        for item, hit in zip(items, hits(items, find), strict=True)
    ]


def bits(text: str) -> float:
    """Shannon entropy of its letters, in bits a letter."""
    counts = Counter(text)
    return sum(count / len(text) * log2(len(text) / count) for count in counts.values())


def secrets(scope: Scope) -> Found | None:
    """Rows with a password, a key or a token; the examples show what stands around it, never the secret."""
    rows = told(scope.items, scope.each(hidden_values))
    if not rows:
        return None
    return Found(
        [Mark(index, hidden(text, find(text))) for index, (text, _) in rows.items()],
        f"{share(len(rows), len(scope.rows))} rows hold what looks like a password, a key or a token.",
        "Revoke them, since a model repeats what it has seen; set `redact: [secret]` in the data set or take them out.",
        detail={"secrets": sum(len(spans) for _, spans in rows.values())},
    )
