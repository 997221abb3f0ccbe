"""Real files from the field: what they are, how many rows they hold, and how many of these can be used."""

import json
import re
from pathlib import Path

import pytest

from pipeline.errors import DataError
from stages.data import formats
from stages.data.inspect import inspect
from stages.data.readers import RowError, read

SHARED = Path(__file__).parents[4] / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared files are not here")

FILES = {  # file -> format, layout, rows, rows rejected
    "formats/zaragoza/faq-alpaca.jsonl": ("alpaca", "alpaca", 503, 0),
    "formats/zaragoza/faq-en-alpaca.jsonl": ("alpaca", "alpaca", 503, 0),
    "formats/zaragoza/faq-en-sharegpt.jsonl": ("sharegpt", "sharegpt", 503, 0),
    "formats/zaragoza/faq-en.csv": ("prompt_completion", "prompt_completion", 503, 0),
    "formats/zaragoza/faq-en.json": ("prompt_completion", "prompt_completion", 503, 0),
    "formats/llamafactory/alpaca_en_demo.json": ("alpaca", "alpaca", 999, 0),
    "formats/llamafactory/dpo_en_demo.json": ("preference", "preference_sharegpt", 300, 0),
    "formats/llamafactory/kto_en_demo.json": ("kto", "kto_messages", 300, 0),
    "formats/sharegpt_fastchat.json": ("sharegpt", "sharegpt", 500, 0),
    "formats/hh_harmless_base_test.jsonl.gz": ("hh", "hh", 2312, 13),
    "formats/labelstudio/chat_data.json": ("labelstudio", "labelstudio_chat", 1, 0),
    "formats/labelstudio/csv_test2.json": ("labelstudio", "labelstudio", 1, 1),
    "formats/labelstudio/csv_test_history.json": ("labelstudio", "labelstudio", 1, 1),
    "formats/labelstudio/data.json": ("labelstudio", "labelstudio", 1, 1),
    "votes/mtbench_human.jsonl": ("votes", "votes", 3355, 3355),  # without texts
    "votes/mtbench_gpt4.jsonl": ("votes", "votes", 2400, 2400),
    "votes/tulu_annotations.xlsx": ("votes", "votes", 1150, 0),
    "votes/tulu_instances.jsonl": ("candidates", "candidates", 996, 0),
    "refusal/refusal.csv": ("prompt_completion", "prompt_completion", 105, 0),
    "refusal/refusal_extra.csv": ("prompt_completion", "prompt_completion", 64, 0),
    "instructions/selfinstruct_seed.jsonl": ("self_instruct", "self_instruct", 175, 0),
}


def test_every_file_is_listed():
    there = {str(path.relative_to(SHARED)) for path in SHARED.rglob("*") if path.is_file()}
    assert there == {*FILES, "README.md", "formats/sharegpt_truncated.json"}


@pytest.mark.parametrize("name", FILES)
def test_its_format_and_its_rows(name):
    found = inspect(str(SHARED / name))
    duplicates = found.reasons.get("rejected: duplicate", 0)
    assert (found.format, found.layout, found.rows_read, found.rows_rejected - duplicates) == FILES[name]
    assert found.rows_kept + found.rows_repaired + found.rows_rejected == found.rows_read
    json.dumps(found.json())


@pytest.mark.parametrize("name", FILES)
def test_no_row_loses_anything_on_the_way_and_back(name):
    for _, raw in read(str(SHARED / name)):
        layout = formats.find(raw)
        try:
            row = formats.to_internal(raw, layout)
        except RowError:
            continue
        assert formats.from_internal(row, layout) == raw


def test_the_truncated_file_is_refused_at_its_byte_and_salvaged():
    path = str(SHARED / "formats" / "sharegpt_truncated.json")
    with pytest.raises(DataError, match=re.escape("breaks at byte 150001 (the file ends inside a row), in row 321")):
        inspect(path)
    found = inspect(path, salvage=True)
    assert (found.rows_read, found.rows_rejected) == (321, 1)
    whole = [row for _, row in read(str(SHARED / "formats" / "sharegpt_fastchat.json"))]
    assert [row for _, row in read(path, salvage=True)][:-1] == whole[:320]
