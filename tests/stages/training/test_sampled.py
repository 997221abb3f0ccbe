"""Rehearsal written by the start model: as much as was asked, the same again after a resume, refused when empty."""

import json

import pytest

from pipeline.errors import ConfigError
from stages.domain import Rehearsal
from stages.models.chat import encode
from stages.training import run
from stages.training.sampled import Sampled, check_sampled, sampled_rows


@pytest.fixture
def ctx(bench, sft):
    asked = Rehearsal(sources={"sampled:start": 1.0}, sampled=Sampled(max_new_tokens=12))
    return bench.context("domain", bench.config("domain", rehearsal=asked), {"policy": sft.artifact}, {})


def test_as_many_tokens_as_asked_are_written_and_published(ctx, tokenizer):
    rows = sampled_rows(ctx, run.open_policy(ctx), 200)
    assert sum(len(encode(tokenizer, row["text"])) for row in rows) >= 200
    published = (ctx.out / "data" / "sampled.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in published] == rows


def test_a_resumed_stage_reads_what_was_written(ctx):
    policy = run.open_policy(ctx)
    first = sampled_rows(ctx, policy, 60)
    (ctx.out / "data" / "sampled.jsonl").unlink()
    assert sampled_rows(ctx, policy, 10**9) == first


@pytest.mark.parametrize(
    "asked", [Sampled(max_new_tokens=0), Sampled(temperature=0.0), Sampled(temperature=float("nan"))]
)
def test_settings_that_cannot_work_are_refused(asked):
    with pytest.raises(ConfigError, match=r"rehearsal\.sampled"):
        check_sampled(asked)
