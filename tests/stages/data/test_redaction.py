import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from stages.data import conversion, redaction
from stages.data.contract.spans import placeholder
from stages.data.readers import RowError
from stages.data.redaction import KINDS, NOTHING, Redaction
from stages.data.rows import content_id, normalise
from stages.prepare import Prepare, PrepareConfig, collect

EVERYTHING = Redaction(KINDS, ("US",))
PIECES = {
    "email": "maria.lopez@gmail.com",
    "phone": "+46 70 174 06 05",
    "iban": "DE89 3704 0044 0532 0130 00",
    "card": "4111 1111 1111 1111",
    "ssn": "536-22-8714",
    "ip": "81.2.69.142",
    "secret": "AKIA" + "QWERTZUIOPASDFGH",
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_gets_its_placeholder(kind):
    text = f"Take {PIECES[kind]} twice: {PIECES[kind]}."
    assert EVERYTHING.of(text) == (f"Take [{kind.upper()}] twice: [{kind.upper()}].", [kind])
    assert Redaction(tuple(set(KINDS) - {kind}), ()).of(f"Take {PIECES[kind]}.") == (f"Take {PIECES[kind]}.", [])


@given(st.lists(st.sampled_from([*PIECES.values(), "and", "then,", "a 7", "(b)"]), max_size=8).map(" ".join))
def test_nothing_is_left_to_redact(text):
    once, kinds = EVERYTHING.of(text)
    assert EVERYTHING.of(once) == (once, []) and (once == text) == (not kinds)
    assert all(placeholder(kind) in once for kind in kinds)


def test_every_text_of_a_row_and_no_label():
    call = {"function": {"name": "send", "arguments": '{"to": "maria.lopez@gmail.com"}'}}
    turns = [
        {"role": "system", "content": "You are maria.lopez@gmail.com."},
        {"role": "user", "content": "Write to +46 70 174 06 05."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "sent by 81.2.69.142"},
        {"role": "assistant", "content": "Done."},
    ]
    raw = {"messages": turns, "id": "maria.lopez@gmail.com", "cluster": "ann@x.org"}
    row, repairs = normalise(raw, "chat", redaction=EVERYTHING)
    text = json.dumps(row["messages"])
    assert [text.count(f"[{kind}]") for kind in ("EMAIL", "PHONE", "IP")] == [2, 1, 1]
    assert repairs == ["redacted email", "redacted ip", "redacted phone"]
    assert (row["id"], row["cluster"]) == ("maria.lopez@gmail.com", "ann@x.org")


def test_the_id_says_nothing_of_what_was_there():
    first, second = ({"text": f"Write to {name}.lopez@gmail.com now."} for name in ("maria", "pedro"))
    rows = [normalise(raw, "text", redaction=EVERYTHING)[0] for raw in (first, second)]
    assert rows[0] == rows[1] and rows[0]["id"] == content_id({"text": "Write to [EMAIL] now."})


def test_answers_that_have_become_the_same_are_no_pair():
    raw = {"prompt": "Who?", "chosen": "maria.lopez@gmail.com", "rejected": "pedro.lopez@gmail.com"}
    assert normalise(raw, "preference", redaction=NOTHING)[1] == []
    with pytest.raises(RowError, match="same text"):
        normalise(raw, "preference", redaction=EVERYTHING)


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [str(path)]


def test_prepare_counts_the_rows_and_finds_duplicates_afterwards(tmp_path):
    rows = [{"text": f"Write to {name}.lopez@gmail.com."} for name in ("maria", "pedro")] + [{"text": "Write."}]
    files = written(tmp_path / "a.jsonl", [*rows, {"text": 7, "note": "maria.lopez@gmail.com"}])
    outcome = collect(PrepareConfig(files=files, format="text", redact=["email"], on_error="reject"))
    assert [row["text"] for row in outcome.kept] == ["Write to [EMAIL].", "Write."]
    assert outcome.reasons == Counter({"repaired: redacted email": 1, "rejected: duplicate": 1, "rejected: broken": 1})
    assert "lopez" not in json.dumps([outcome.kept, outcome.rejected])


def test_other_processes_redact_as_well(tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "ALONE", 1)
    monkeypatch.setattr(conversion, "RECORDS", 10)
    monkeypatch.setattr(conversion.os, "sched_getaffinity", lambda _: {0, 1})
    files = written(tmp_path / "a.jsonl", [{"text": f"No. {i}: ring 08-463 10 00."} for i in range(60)])
    outcome = collect(PrepareConfig(files=files, format="text", redact=["phone"], redact_regions=["SE"]))
    assert [row["text"] for row in outcome.kept] == [f"No. {i}: ring [PHONE]." for i in range(60)]
    assert outcome.repaired == 60


@pytest.mark.parametrize(
    "kinds, regions, message",
    [
        (["mail"], ["US"], "did you mean 'email'"),
        (["phone"], ["Sweden"], "redact_regions: 'Sweden' is no country code"),
    ],
)
def test_unknown_kinds_and_countries(kinds, regions, message):
    with pytest.raises(ConfigError, match=message):
        redaction.check(kinds, regions)
    with pytest.raises(ConfigError, match=message):
        Prepare().validate(PrepareConfig(files=["x.jsonl"], redact=kinds, redact_regions=regions))


def test_the_rules_are_part_of_the_identity_where_they_are_used(tmp_path):
    files = written(tmp_path / "a.jsonl", [{"text": "One."}])
    plain, redacted = (Prepare().fingerprints(PrepareConfig(files=files, redact=kinds)) for kinds in ([], ["email"]))
    assert redacted.keys() - plain.keys() == {"redaction"}
