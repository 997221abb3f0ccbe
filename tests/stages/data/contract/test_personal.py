import string

import pytest
from contract_scopes import chat, lines, scope_of
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import iban, luhn
from stdnum.us import ssn

from stages.data.contract.config import PERSONAL
from stages.data.contract.personal import KINDS, find, personal_data

FOUND = [  # (kind, piece)
    ("email", "maria.lopez@gmail.com"),
    ("email", "o'neill_77@mail.corp-x.co.uk"),
    ("email", "jörg.müller@bücher.de"),
    ("email", "maria.lopez@example.com"),
    ("email", "maria (at) mail (dot) org"),
    ("phone", "+46 70 174 06 05"),
    ("phone", "+442079460958"),
    ("phone", "(415) 555-0132"),
    ("phone", "415-867-5309"),
    ("phone", "1-212-736-5000"),
    ("phone", "212.736.5000"),
    ("phone", "+1-555-123-4567"),
    ("iban", "DE89370400440532013000"),
    ("iban", "GB82 WEST 1234 5698 7654 32"),
    ("iban", "D E 8 9 3 7 0 4 0 0 4 4 0 5 3 2 0 1 3 0 0 0"),
    ("card", "4111111111111111"),
    ("card", "4111 1111 1111 1111"),
    ("card", "5500-0055-5555-5559"),
    ("card", "3782 822463 10005"),
    ("card", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"),
    ("ssn", "536-22-8714"),
    ("ip", "81.2.69.142"),
    ("ip", "203.0.113.7"),
    ("ip", "2a00:1450:4001:81b::200e"),
]
CLEAN = [
    "user@example.com, your.name@gmail.com, info@yourcompany.com, flat@sorensen.example",
    "git@github.com:owner/name.git and icon@2x.png and @app.route and a@b",
    "Version 1.2.3.4, v10.20.30.40, pip install x==81.2.69.142, Firefox/81.2.69.142",
    "The numbers 1.2.3.4 and 12.6.18.8 stand alone",
    "127.0.0.1, 10.0.0.7, 192.168.1.1, 0.0.0.0, 255.255.255.0, 8.8.8.8, 300.1.2.3, 81.2.69.0/24",
    "Section 12.4.3.33 and the time 12:30:45 and a::b and std::vector<int>",
    "On 2023-10-05 12:30:45, on 05.12.2023, from 1990-1995, in 10/12/2024 and 20231005123045",
    "Order 2125551234, ISBN 978-0-306-40615-7, id 4111111111111112, sum 0.4111111111111111",
    "550e8400-e29b-41d4-a716-446655440000 and 1234-4111-1111-1111-1111-5678",
    "DE89370400440532013001 and GB00 WEST 1234 5698 7654 32",
    "000-12-3456, 666-12-3456, 536-00-8714, 078-05-1120, 123-45-67890",
    "Call 1-800-273-8255 for help, or 988. The values are 41 42 43 44 45 46 47 48.",
    "DFARS 252.227-7015; 12,345,678.90 dollars; 1 000 000 000 people",
]


def kinds_in(text, regions=("US",)):
    return [(span.kind, text[span.start : span.end]) for span in find(text, list(KINDS), regions)]


@pytest.mark.parametrize("kind, piece", FOUND)
@pytest.mark.parametrize(
    "frame", ["{}", "It is {} of 2024, says AB 04.", "On 12 May: {}.", "Take 3 {} 4 times", "({})"]
)
def test_each_kind_in_its_forms(kind, piece, frame):
    assert kinds_in(frame.format(piece)) == [(kind, piece)]


@pytest.mark.parametrize("text", CLEAN)
def test_what_only_looks_like_it(text):
    assert kinds_in(text) == []


@pytest.mark.parametrize(
    "word, piece",
    [("phone", "4158675309"), ("SSN", "536 22 8714"), ("social security", "536228714"), ("call", "555-3476")],
)
def test_a_word_before_it_says_what_it_is(word, piece):
    assert len(kinds_in(f"The {word} is {piece}")) == 1 and kinds_in(f"The house is {piece}") == []


def test_numbers_without_a_countrys_code_belong_to_the_regions():
    text = "Ring 08-463 10 00 or 020 7946 0958."
    assert kinds_in(text) == []
    assert kinds_in(text, ["SE"]) == [("phone", "08-463 10 00")]
    assert [piece for _, piece in kinds_in(text, ["SE", "GB"])] == ["08-463 10 00", "020 7946 0958"]


def made(kind, draw):
    digits = lambda count: "".join(draw.choices(string.digits, k=count))  # noqa: E731
    if kind == "card":
        start = draw.choice(["4", "51", "2221", "6011", "37"]) + digits(9)
        start += digits((14 if start.startswith("37") else 15) - len(start))
        return start + luhn.calc_check_digit(start)
    if kind == "iban":
        body = draw.choice(["DE", "PL", "SE", "FI", "NO"])
        rest = digits({"DE": 18, "PL": 24, "SE": 20, "FI": 14, "NO": 11}[body])
        return draw.choice([str, iban.format])(f"{body}{iban.calc_check_digits(f'{body}00{rest}')}{rest}")
    while not ssn.is_valid(number := digits(9)):
        pass
    return ssn.format(number)


@settings(deadline=None)
@given(st.sampled_from(["card", "iban", "ssn"]), st.randoms(use_true_random=False))
def test_valid_numbers_are_found_and_one_wrong_digit_makes_them_nothing(kind, draw):
    number = made(kind, draw)
    assert kinds_in(f"no. {number}, please") == [(kind, number)]
    if kind != "ssn":  # which has no check digit
        place = draw.choice([i for i, letter in enumerate(number) if letter.isdigit()])
        wrong = number[:place] + str((int(number[place]) + 1) % 10) + number[place + 1 :]
        assert (kind, wrong) not in kinds_in(f"no. {wrong}, please")


@given(st.text(alphabet=string.digits + " .-+()@:ab", max_size=80))
def test_spans_are_in_order_and_apart(text):
    spans = find(text, list(KINDS), ["US"])
    ends = [0, *(span.end for span in spans)]
    assert all(end <= span.start < span.end for end, span in zip(ends, spans, strict=False))


def test_kinds_are_those_of_the_config():
    assert set(KINDS) == set(PERSONAL)


def test_the_finding_names_kinds_and_hides_what_it_found():
    rows = [chat("Who?", "Write to maria.lopez@gmail.com or call +46 70 174 06 05."), chat("Who?", "Me.")]
    found = personal_data(scope_of("sft", rows))
    assert lines(found) == [1] and found.detail == {"kinds": {"email": 1, "phone": 1}}
    assert "maria" not in found.marks[0].text and "[EMAIL]" in found.marks[0].text
    assert "redact: [email, phone]" in found.remedy
    assert personal_data(scope_of("sft", rows, personal=["card"])) is None


def test_calls_of_tools_are_texts_too():
    row = chat("Write to her.", "Done.")
    row["messages"][1]["tool_calls"] = [{"function": {"name": "send", "arguments": '{"to": "maria.lopez@gmail.com"}'}}]
    assert lines(personal_data(scope_of("sft", [row]))) == [1]
