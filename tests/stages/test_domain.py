"""`domain`: documents with rehearsal from the upstream data, at the shares that were asked for."""

import json

import pytest

from pipeline.errors import ConfigError, DataError
from stages.data import artifact
from stages.domain import Domain, Rehearsal, upstream_sft_data
from stages.models.chat import chat_example, text_example
from stages.training.sampled import Sampled


@pytest.fixture(scope="module")
def texts(bench, rows):
    return bench.data("text", rows.text(40))


@pytest.fixture(scope="module")
def general(bench, rows):
    return bench.data("general", rows.chat(20, tag="other", start=500))


@pytest.fixture
def fed(monkeypatch):
    """What `domain` hands to the trainer, which is not run."""
    from stages import domain as module

    seen = []

    def fit(ctx, policy, rows, *, pack):
        assert pack
        seen.extend(rows)
        return {}

    monkeypatch.setattr(module, "fit", fit)
    return seen


def mixture(bench, policy, data, fed=None, **rehearsal):
    """The recorded mixture of a `domain` on `policy`."""
    settings = {"share": 0.2, "safety_floor": 0.05, "general": 0.0, **rehearsal}
    config = bench.config("domain", rehearsal=Rehearsal(**settings), max_length=256)
    ctx = bench.context("domain", config, {"policy": policy}, data)
    Domain().run(ctx)
    return ctx.sections["data"]


def test_realised_shares_are_recorded_and_near_what_was_asked(domain):
    recorded = domain.sections["data"]
    parts = recorded["mixture"]
    assert list(parts) == ["text", "rehearsal:replay", "rehearsal:safety"]
    asked = {"text": 0.8, "rehearsal:replay": 0.15, "rehearsal:safety": 0.05}
    for name, part in parts.items():
        assert part["asked"] == pytest.approx(asked[name])
        assert abs(part["realised"] - asked[name]) <= 0.005
    assert recorded["tokens"] == sum(part["tokens"] for part in parts.values())
    assert recorded["trained_tokens"] == sum(part["trained_tokens"] for part in parts.values())
    assert recorded["rows_kept"] == sum(part["rows"] for part in parts.values())


def test_rehearsal_draws_from_the_data_of_the_upstream_sft(bench, sft, texts, chat_data, fed, tokenizer):
    mixture(bench, sft.artifact, {"train": texts}, fed)
    by_ids = {tuple(chat_example(tokenizer, row["messages"], 256).ids): row for row in artifact.rows(chat_data)}
    documents = {tuple(e.ids) for row in artifact.rows(texts) for e in text_example(tokenizer, row["text"], 256)}
    found = [by_ids[tuple(row.ids)] for row in fed if tuple(row.ids) in by_ids]
    others = [row for row in fed if tuple(row.ids) not in by_ids]
    assert {row["tags"][0] for row in found} == {"general", "safety"}
    assert all(tuple(row.ids) in documents or row.cut or len(row.ids) < 256 for row in others)
    for row in fed:
        if tuple(row.ids) in by_ids:  # replayed rows are trained as `sft` trained them: answers only
            turns = by_ids[tuple(row.ids)]["messages"]
            assert row.labels == chat_example(tokenizer, turns, 256).labels


def test_safety_rows_fill_their_floor_and_never_the_replay(bench, sft, texts, chat_data, fed, tokenizer):
    recorded = mixture(bench, sft.artifact, {"train": texts}, share=0.1, safety_floor=0.1)
    assert set(recorded["mixture"]) == {"text", "rehearsal:safety"}
    safety = {
        tuple(chat_example(tokenizer, row["messages"], 256).ids)
        for row in artifact.rows(chat_data)
        if "safety" in row["tags"]
    }
    assert sum(len(r.ids) for r in fed if tuple(r.ids) in safety) == recorded["mixture"]["rehearsal:safety"]["tokens"]


def test_general_takes_its_part_of_what_remains(bench, sft, texts, general, fed):
    parts = mixture(bench, sft.artifact, {"train": texts, "general": general}, share=0.4, general=0.5)["mixture"]
    asked = {name: round(part["asked"], 3) for name, part in parts.items()}
    assert asked == {"text": 0.6, "rehearsal:general": 0.175, "rehearsal:replay": 0.175, "rehearsal:safety": 0.05}


def test_no_rehearsal_reads_no_upstream_data(bench, base, texts, fed):
    recorded = mixture(bench, base, {"train": texts}, share=0.0)  # there is no sft above: nothing is looked for
    assert list(recorded["mixture"]) == ["text"] and recorded["mixture"]["text"]["realised"] == 1.0


def test_by_default_every_document_is_trained_once(bench, sft, texts, fed, tokenizer):
    recorded = mixture(bench, sft.artifact, {"train": texts})
    whole = sum(len(e.ids) for row in artifact.rows(texts) for e in text_example(tokenizer, row["text"], 256))
    assert recorded["mixture"]["text"]["tokens"] == pytest.approx(whole, rel=0.02)
    assert recorded["mixture"]["text"]["epochs"] == pytest.approx(1, abs=0.06)


def test_max_tokens_is_the_size_of_the_whole_mixture(bench, sft, texts, fed):
    config = bench.config("domain", rehearsal=Rehearsal(general=0.0), max_length=256, max_tokens=1200)
    ctx = bench.context("domain", config, {"policy": sft.artifact}, {"train": texts})
    Domain().run(ctx)
    assert ctx.sections["data"]["tokens"] == pytest.approx(1200, rel=0.03)


def test_upstream_data_is_found_through_the_manifests(bench, sft, domain, chat_data, texts):
    for policy in (sft.artifact, domain.artifact):
        ctx = bench.context("domain", bench.config("domain"), {"policy": policy}, {"train": texts})
        assert upstream_sft_data(ctx).id == chat_data.id


def test_upstream_data_comes_without_the_rows_that_sft_dropped(bench, base, chat_data, texts):
    folder, gone = bench.folder("check_sft"), [row["id"] for row in artifact.rows(chat_data)][:2]
    (folder / artifact.DROPPED).write_text(json.dumps({chat_data.stage: gone}))
    check = bench.publish("check_sft", "contract", folder, {}, {})
    config = bench.config("sft", data={"train": "chats"}, train={"max_steps": 1})
    sft = bench.run(bench.context("sft", config, {"policy": base, "checked": check}, {"train": chat_data}))
    ctx = bench.context("domain", bench.config("domain"), {"policy": sft.artifact}, {"train": texts})
    read = [row["id"] for row in artifact.rows(upstream_sft_data(ctx))]
    assert len(read) == len(artifact.rows(chat_data)) - 2 and not set(read) & set(gone)


def test_the_nearest_of_several_sft_stages_counts(bench, sft, rows, texts):
    second = bench.data("second", rows.chat(6, start=900))
    upper = bench.train("sft", sft.artifact, {"train": second}, train={"max_steps": 1})
    ctx = bench.context("domain", bench.config("domain"), {"policy": upper.artifact}, {"train": texts})
    assert upstream_sft_data(ctx).id == second.id


def test_without_an_sft_above_rehearsal_is_refused(bench, base, texts, fed):
    with pytest.raises(DataError, match=r"none above this stage; put `sft` before `domain`, or set rehearsal\.share=0"):
        mixture(bench, base, {"train": texts})


def test_safety_floor_without_safety_rows_is_refused(bench, base, rows, texts, fed):
    plain = bench.train("sft", base, {"train": bench.data("plain", rows.chat(8))}, train={"max_steps": 1})
    with pytest.raises(DataError, match=r'tagged `safety`; add rows with "tags": \["safety"\], or set rehearsal\.saf'):
        mixture(bench, plain.artifact, {"train": texts})
    assert "rehearsal:safety" not in mixture(bench, plain.artifact, {"train": texts}, safety_floor=0.0)["mixture"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": {}}, r"data\.train: name the data set of documents"),
        ({"data": {"train": "t", "genral": "g"}}, r"data\.genral: .* reads train, general"),
        ({"rehearsal": Rehearsal(share=1.0)}, r"share=1\.0 must be in \[0, 1\)"),
        ({"rehearsal": Rehearsal(share=-0.1)}, r"share=-0\.1"),
        ({"rehearsal": Rehearsal(general=1.5)}, r"general=1\.5"),
        ({"rehearsal": Rehearsal(share=0.1, safety_floor=0.2)}, r"safety_floor=0\.2 must lie between 0 and share=0\.1"),
        ({"rehearsal": Rehearsal(safety_floor=-0.1)}, r"safety_floor=-0\.1"),
        ({"rehearsal": Rehearsal(general=0.5)}, r"rehearsal\.general > 0 needs a data set in data\.general"),
        ({"max_tokens": -1}, r"max_tokens=-1"),
        ({"train": {"learning_rat": 1.0}}, r"train\.learning_rat: .*did you mean train\.learning_rate"),
    ],
)
def test_what_cannot_work_is_found_before_anything_runs(bench, settings, message):
    config = bench.config("domain", **{"data": {"train": "t"}, "rehearsal": Rehearsal(general=0.0), **settings})
    with pytest.raises(ConfigError, match=message):
        Domain().validate(config)
    Domain().validate(bench.config("domain", data={"train": "t", "general": "g"}))
    Domain().validate(bench.config("domain", data={"train": "t"}, rehearsal=Rehearsal(share=0.0)))


def test_sources_share_what_the_safety_floor_leaves(bench, sft, texts, general, fed):
    recorded = mixture(
        bench, sft.artifact, {"train": texts, "law": general}, share=0.35, safety_floor=0.05,
        sources={"upstream:sft": 1.0, "law": 2.0},
    )  # fmt: skip
    asked = {name: part["asked"] for name, part in recorded["mixture"].items()}
    assert asked == pytest.approx(
        {"text": 0.65, "rehearsal:replay": 0.1, "rehearsal:law": 0.2, "rehearsal:safety": 0.05}
    )


def test_the_start_model_can_write_the_rehearsal(bench, sft, texts, fed):
    recorded = mixture(
        bench, sft.artifact, {"train": texts}, share=0.2, safety_floor=0.0, sources={"sampled:start": 1.0},
        sampled=Sampled(max_new_tokens=16),
    )  # fmt: skip
    assert abs(recorded["mixture"]["rehearsal:sampled"]["realised"] - 0.2) <= 0.005
