"""Personal data in texts: e-mail and IP addresses, bank accounts, cards, social security and telephone numbers.

What counts is whether a piece has the form and the check digits of the real thing, not whether it is in use: numbers
with 555 and test cards count. What is nobody's does not: loopback and private addresses, `user@example.com`, toll-free
lines, versions, dates, numbers without the right check digit.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from ipaddress import ip_address, ip_network
from itertools import product

from stages.data.contract.config import PERSONAL
from stages.data.contract.spans import Hit, Span, disjoint, hidden, hits, told
from stages.data.contract.view import Found, Item, Mark, Scope, share

CALLED = {
    "email": "e-mail addresses",
    "phone": "telephone numbers",
    "iban": "bank account numbers",
    "card": "card numbers",
    "ssn": "social security numbers",
    "ip": "IP addresses",
}
NEAR = 40  # letters before a number in which a word may say what it is

EMAIL = re.compile(r"(?<![\w.@+-])[\w][\w.+%'-]{0,63}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+([^\W\d_]{2,24})(?![\w@-])")
AT = ("[at]", "(at)", "{at}", "[ at ]", "( at )", "[AT]", "(AT)")
WRITTEN = re.compile(  # jane (at) mail (dot) org
    r"(?<![\w.])[\w][\w.+-]{0,63}\s?[\[({]\s?at\s?[\])}]\s?[\w-]+(?:(?:\s?[\[({]\s?dot\s?[\])}]\s?|\.)[\w-]+)+", re.I
)
NO_DOMAIN = re.compile(  # top-level domains of RFC 2606 and 6761, and endings of files
    r"example|test|invalid|localhost|local|png|jpe?g|gif|svg|webp|css|[jt]sx?|py|md|txt|json|html|xml|ya?ml|pdf|so|git",
    re.I,
)
STAND_IN = re.compile(  # domains that stand for one's own
    r"(?:^|\.)(?:example|(?:your|my|some)?[-_]?(?:domain|company|email|site|website|server|host|"
    r"address|organization))\.\w+$",
    re.I,
)
NOBODY = re.compile(  # names at such a domain that are no person's
    r"(?:user(?:name)?|name|(?:first|last)(?:[._-]?name)?|first[._-]?last(?:[._-]?name)?|me|you|foo|bar|baz|"
    r"test(?:er|ing)?|abc|xyz|info|admin|support|contact|sales|e?-?mail|address|some(?:one|body)|anyone|example|sample|sender|"
    r"recipient|receiver|from|to|customer|client|member|hello|help|nobody|webmaster|postmaster)?[\d._-]*",
    re.I,
)
YOURS = re.compile(r"(?:your|my)[._-]|your(?:name|email|user)|(?:no|do-?not)-?reply", re.I)

DIGITS = re.compile(r"\d+")
NUMBERS = re.compile(r"\d+(?:[ \u00a0-]{1,2}\d+)*")
ISSUERS = re.compile(  # of ISO/IEC 7812, with their lengths
    r"4\d{15}|5[1-5]\d{14}|2(?:2[2-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|"
    r"6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14}(?:\d{3})?"
)
CARDS = [(16,), (15,), (14,), (4,) * 4, (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (1,) * 16, (1,) * 15, (1,) * 14]
NO_CARD = re.compile(r"[\w$€£/=#]$|\d[.,]$")  # before a number that is part of something else

IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Z] ?[A-Z](?:[ \u00a0.-]{0,2}\d){2}", re.I)
IBAN = re.compile(r"[A-Z] ?[A-Z](?:[ \u00a0.-]{0,2}\d){2}(?:[ \u00a0.-]{0,2}[A-Z0-9]){11,30}", re.I)
SHORTEST_IBAN = 15

SSN = re.compile(r"(?<![\w.-])\d{3}(-| |)\d{2}\1\d{4}(?![\w-]|\.\d)")
SSN_WORD = re.compile(r"\bssn\b|social[ -]security", re.I)

IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d|/\d)")
IPV6 = re.compile(r"(?<![\w:.])(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{1,4}(?![\w:]|/\d)", re.I)
SERVICES = frozenset(["8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "208.67.222.222", "208.67.220.220"])
DOCUMENTED = tuple(map(ip_network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")))
VERSION = re.compile(r"\b(?:version|ver|v)[\s.:=#]*$|[A-Za-z]/$|[=~^<>]=?$|@$", re.I)  # before an address that is none
NUMBERED = re.compile(r"(?:release|build|section|chapter|clause|article|figure|table|§)[\s.:#]*$", re.I)
SMALL, MIDDLE = 32, 100  # four numbers below it are a version, and after a word of NUMBERED the number of a section

ABROAD = re.compile(r"(?<![\w.,/=#&$€£+-])(?:\((?=\+\d{1,3}\)))?\+\d(?:[ \u00a0().\-/]{0,3}\d){6,14}(?!\d)")
AMERICAN = re.compile(
    r"(?<![\w/=#&$€£.-])(?:1[ .-])?(?:\(\d{3}\)[ .-]?\d{3}[ .-]|\d{3}(?P<dash>[.-])\d{3}(?P=dash))\d{4}"
    r"(?![\w%]|[.,:-]\d|-\w)"
)
LOCAL = re.compile(r"(?<![\w.,/=#&$€£+-])(?<!\d[ :])\(?\d(?:[ \u00a0().\-/]{0,3}\d){6,14}(?![\w%]|[.,:]\d|-\w)")
PHONE_WORD = re.compile(
    r"phone|\btel|\bcall|mobile|\bcell|\bfax|whats ?app|\btext\b|\bsms\b|\bdial|contact|\breach|hotline", re.I
)
FILM = re.compile(r"\+?(?:1[ .-]?)?\(?(?:555|123)\)?[ .-]?\d{3}[ .-]?\d{4}")  # areas that no telephone has
FILM_LOCAL = re.compile(r"(?<![\w.-])555-\d{4}(?![\w-])")
DATE = re.compile(r"\d{1,4}([./-])\d{1,2}\1\d{1,4}(?!\d)")


def find(text: str, kinds: Sequence[str], regions: Sequence[str] = ()) -> list[Span]:
    """Personal data of these kinds (see KINDS) in order of place.

    `regions`: the countries, such as US, whose telephone numbers are known without a country's code.
    """
    digits = sum(map(text.count, "0123456789"))
    asked = [kind for kind in KINDS if kind in kinds and digits >= LEAST[kind]]
    found = [span for kind in asked for span in KINDS[kind](text, regions)]
    return disjoint(found) if found else found


def _emails(text: str, regions: Sequence[str]) -> Iterator[Span]:
    if "@" in text:
        for match in EMAIL.finditer(text):
            if not _nobodys(text, match):
                yield Span("email", match.start(), match.end())
    if any(sign in text for sign in AT):
        for match in WRITTEN.finditer(text):
            yield Span("email", match.start(), match.end())


def _nobodys(text: str, match: re.Match[str]) -> bool:
    """A stand-in, a file, a remote of git, or the password and host of an address on the web."""
    name, _, domain = match.group().partition("@")
    if NO_DOMAIN.fullmatch(match.group(1)) or YOURS.match(name) or (STAND_IN.search(domain) and NOBODY.fullmatch(name)):
        return True
    if name == "git" and text[match.end() : match.end() + 1] in (":", "/"):
        return True
    before = text[max(0, match.start() - 100) : match.start()]
    return before.endswith(":") and "://" in before.split()[-1]


def _ips(text: str, regions: Sequence[str]) -> Iterator[Span]:
    for pattern, sign in ((IPV4, "."), (IPV6, ":")):
        for match in pattern.finditer(text) if sign in text else ():
            if _is_address(match.group(), text[max(0, match.start() - 12) : match.start()]):
                yield Span("ip", match.start(), match.end())


def _is_address(text: str, before: str) -> bool:
    """An address that may be somebody's. Those of documentation count, those of one's own network do not."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if address.version == 4:
        largest = max(address.packed)
        if largest < SMALL or VERSION.search(before) or (largest < MIDDLE and NUMBERED.search(before)):
            return False
    documented = any(address in network for network in DOCUMENTED if network.version == address.version)
    return (address.is_global or documented) and not address.is_multicast and text not in SERVICES


def _ibans(text: str, regions: Sequence[str]) -> Iterator[Span]:
    from stdnum import iban

    for start in IBAN_START.finditer(text):
        match = IBAN.match(text, start.start())
        places = [place for place in range(start.start(), match.end()) if text[place].isalnum()] if match else []
        for length in range(len(places), SHORTEST_IBAN - 1, -1):
            end = places[length - 1] + 1
            number = "".join(text[place] for place in places[:length])
            if not text[end : end + 1].isalnum() and iban.is_valid(number, check_country=False):
                yield Span("iban", start.start(), end)
                break


def _cards(text: str, regions: Sequence[str]) -> Iterator[Span]:
    """Numbers of an issuer with the right check digit, in one piece, in the groups of a card, or digit by digit."""
    from stdnum import luhn

    longest_first = sorted(_in_groups(text), key=lambda place: place[0] - place[1])
    for start, end in longest_first:
        digits = "".join(filter(str.isdigit, text[start:end]))
        if ISSUERS.fullmatch(digits) and luhn.is_valid(digits) and _is_alone(text, start, end):
            yield Span("card", start, end)


def _in_groups(text: str) -> Iterator[tuple[int, int]]:
    """Places of digits in groups of the sizes of CARDS."""
    for run in NUMBERS.finditer(text):
        if run.end() - run.start() >= LEAST["card"]:
            groups = [group.span() for group in DIGITS.finditer(text, *run.span())]
            sizes = tuple(end - start for start, end in groups)
            for first, shape in product(range(len(groups)), CARDS):
                if sizes[first : first + len(shape)] == shape:
                    yield groups[first][0], groups[first + len(shape) - 1][1]


def _is_alone(text: str, start: int, end: int) -> bool:
    """No part of a longer number, of an amount, a name or an address."""
    part_of_more = NO_CARD.search(text[max(0, start - 2) : start]) or text[max(0, start - 1) : start] == "-"
    return not part_of_more and not re.match(r"[\w-]|[.,]\d", text[end : end + 2])


def _ssns(text: str, regions: Sequence[str]) -> Iterator[Span]:
    from stdnum.us import ssn

    for match in SSN.finditer(text):
        dashed = match.group(1) == "-"
        if (dashed or _told(SSN_WORD, text, match)) and ssn.is_valid(re.sub(r"\D", "", match.group())):
            yield Span("ssn", match.start(), match.end())


def _phones(text: str, regions: Sequence[str]) -> Iterator[Span]:
    for match in ABROAD.finditer(text) if "+" in text else ():
        end = next((end for end in _ends(match) if _is_phone(text[match.start() : end], None)), None)
        if end:
            yield Span("phone", match.start(), end)
    patterns = ((AMERICAN, _is_american), (LOCAL, _is_local), (FILM_LOCAL, _is_film))
    for pattern, is_one in patterns:
        for match in pattern.finditer(text):
            if is_one(text, match, regions):
                yield Span("phone", match.start(), match.end())


def _is_american(text: str, match: re.Match[str], regions: Sequence[str]) -> bool:
    return any(_is_phone(match.group(), region) for region in regions)


def _is_local(text: str, match: re.Match[str], regions: Sequence[str]) -> bool:
    """Any valid number after a word for it, else one with a zero in front, as in most countries, that is no date."""
    plain = _has_trunk_zero(match.group()) and not DATE.match(match.group())
    return (plain or _told(PHONE_WORD, text, match)) and any(_is_phone(match.group(), region) for region in regions)


def _is_film(text: str, match: re.Match[str], regions: Sequence[str]) -> bool:
    return _told(PHONE_WORD, text, match)


def _ends(match: re.Match[str]) -> Iterator[int]:
    """Where the number may end, the last place first: what follows it may be another number."""
    yield match.end()
    gaps = [gap.start() for gap in re.finditer(r"(?<=\d)[^\d]+", match.group())]
    yield from (match.start() + gap for gap in reversed(gaps))


def _told(word: re.Pattern[str], text: str, match: re.Match[str]) -> bool:
    return bool(word.search(text, max(0, match.start() - NEAR), match.start()))


def _has_trunk_zero(number: str) -> bool:
    return number.lstrip("(").startswith("0") and any(mark in number for mark in " -/()")


def _is_phone(number: str, region: str | None) -> bool:
    """Valid there (None: with its country's code), or of the areas of films."""
    return bool(FILM.fullmatch(number)) or _is_valid(number, region)


def _is_valid(number: str, region: str | None) -> bool:
    """A number of a person or a firm; lines that are free of charge or paid for are nobody's."""
    import phonenumbers
    from phonenumbers import PhoneNumberType

    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return False
    service = (
        PhoneNumberType.TOLL_FREE,
        PhoneNumberType.PREMIUM_RATE,
        PhoneNumberType.SHARED_COST,
        PhoneNumberType.UAN,
    )
    return phonenumbers.is_valid_number(parsed) and phonenumbers.number_type(parsed) not in service


LEAST = {"email": 0, "ip": 4, "iban": 6, "card": 14, "ssn": 9, "phone": 7}  # digits that a text with one has
KINDS: dict[str, Callable[[str, Sequence[str]], Iterator[Span]]] = {  # the first wins where two overlap
    "email": _emails,
    "ip": _ips,
    "iban": _ibans,
    "card": _cards,
    "ssn": _ssns,
    "phone": _phones,
}


def named_people(items: Sequence[Item], scope: Scope) -> list[Hit | None]:
    """The personal data of each item."""
    return hits(items, partial(find, kinds=scope.config.personal, regions=scope.config.regions))


def personal_data(scope: Scope) -> Found | None:
    """Rows with personal data of the kinds in `personal`; the examples show what stands around it."""
    config = scope.config
    rows = told(scope.items, scope.each(named_people))
    if not rows:
        return None
    found = [{span.kind for span in spans} for _, spans in rows.values()]
    counts = {kind: count for kind in PERSONAL if (count := sum(kind in kinds for kinds in found))}
    named = ", ".join(f"{CALLED[kind]} in {count}" for kind, count in counts.items())
    return Found(
        [Mark(index, hidden(text, find(text, config.personal, config.regions))) for index, (text, _) in rows.items()],
        f"{share(len(rows), len(scope.rows))} rows hold personal data: {named}.",
        f"A model repeats what it has seen. Set `redact: [{', '.join(counts)}]` in the data set to put placeholders in "
        "their place, or take the rows out.",
        detail={"kinds": counts},
    )
