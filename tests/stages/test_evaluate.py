"""The evaluate stage: what it refuses, which items it takes, and a whole run on a toy model."""

import dataclasses
import json

import pytest
from pyarrow import parquet

from pipeline.context import Artifact, Context
from pipeline.errors import ConfigError, DataError
from pipeline.registry import kind
from pipeline.schema import Runtime, Suite
from stages.evaluate import Evaluate, EvaluateConfig, spread
from stages.evaluation import MEASUREMENTS

QUESTIONS = ["Which licence is this?", "May I sell it?", "Must I give the source code to those who receive it?", "Who?"]
PROMPTS = [[{"role": "user", "content": text}] for text in QUESTIONS]
DATA = {
    "texts": [{"id": f"t{k}", "text": text} for k, text in enumerate(QUESTIONS)],
    "facts": [
        {
            "id": f"c{k}",
            "prompt": p,
            "choices": ["Yes.", "No."],
            "answer": k % 2,
            "baselines": {"always_yes": 1 - k % 2},
        }
        for k, p in enumerate(PROMPTS)
    ],
    "tasks": [{"id": f"g{k}", "prompt": p, "check": {"type": "words", "max": 50}} for k, p in enumerate(PROMPTS)],
    "safety": [{"id": f"r{k}", "prompt": p, "harmful": k % 2 == 0, "category": "x"} for k, p in enumerate(PROMPTS)],
    "pairs": [{"id": f"p{k}", "prompt": p, "chosen": "Yes.", "rejected": "Keep it."} for k, p in enumerate(PROMPTS)],
}
SUITES = {
    "domain": Suite("perplexity", "texts"),
    "categories": Suite("choice", "facts", params={"normalise": "tokens"}),
    "instructions": Suite("generate", "tasks", params={"max_new_tokens": 4}),
    "refuses": Suite("refusal", "safety", params={"max_new_tokens": 4}),
    "over_refuses": Suite("refusal", "safety", params={"side": "benign", "max_new_tokens": 4}),
    "prefers": Suite("preference", "pairs"),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    from stages.models.chain import base_chain
    from stages.models.sources import toy

    path = tmp_path_factory.mktemp("base")
    folder = path / "model"
    model, tokenizer = toy()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    base_chain("base0", "toy", folder).write(folder)
    return Artifact("base0", "base", "base", path, "d")


@pytest.fixture
def evaluate(base, tmp_path):
    """evaluate(suites, data, micro_batch) -> (metrics, folder of the results, the context)."""

    def run(suites, data=DATA, micro_batch=0, name="out", cache=None, forced=False):
        sets = {}
        for key, rows in data.items():
            (tmp_path / key / "data").mkdir(parents=True, exist_ok=True)
            (tmp_path / key / "data" / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            sets[key] = Artifact(key, "prepare", key, tmp_path / key, str(len(rows)))
        config = EvaluateConfig(
            kind="evaluate", suites=suites, runtime=Runtime(device="cpu", threads=1, micro_batch=micro_batch)
        )
        out, ckpt, cache = tmp_path / name, tmp_path / "ckpt", cache or tmp_path / f"cache_{name}"
        ctx = Context("r", "e", "eval_base", "i", config, {"model": base}, sets, {base.id: base}, out, ckpt, cache)
        ctx.forced = forced
        return Evaluate().run(ctx), out / "results", ctx

    return run


def test_all_suites_of_a_model_in_one_run(evaluate):
    metrics, folder, ctx = evaluate(SUITES)
    summary = json.loads((folder / "summary.json").read_text())
    assert list(metrics) == list(SUITES) == list(summary)
    assert {name: suite["n"] for name, suite in summary.items()} == {
        "domain": 4, "categories": 4, "instructions": 4, "refuses": 2, "over_refuses": 2, "prefers": 4,
    }  # fmt: skip
    assert [summary[name]["metric"] for name in SUITES] == [
        "perplexity", "accuracy", "pass_rate", "refusal_rate", "over_refusal_rate", "preference_accuracy",
    ]  # fmt: skip
    assert 100 < metrics["domain"] < 2000  # random weights over 400 words
    assert summary["categories"]["baselines"] == {"always_yes": 0.5}
    assert set(ctx.sections["timing"]["suites"]) == set(SUITES) and ctx.sections["timing"]["load_seconds"] > 0
    assert parquet.read_table(folder / "items.parquet").num_rows == 20


def test_the_micro_batch_changes_nothing_but_float_noise(evaluate):
    tables = []
    for size in (0, 1, 3):
        _, folder, _ = evaluate(SUITES, micro_batch=size, name=f"out{size}")
        tables.append(parquet.read_table(folder / "items.parquet"))
    for table in tables[1:]:
        assert table.drop_columns(["score"]) == tables[0].drop_columns(["score"])
        assert table["score"].to_pylist() == pytest.approx(tables[0]["score"].to_pylist(), abs=1e-4)


def test_what_is_known_of_a_model_is_not_measured_again(evaluate, tmp_path, monkeypatch):
    first, folder, _ = evaluate(SUITES, cache=tmp_path / "cache")
    fewer = {**SUITES, "instructions": Suite("generate", "tasks", params={"max_new_tokens": 5})}
    _, _, ctx = evaluate(fewer, name="more", cache=tmp_path / "cache")
    assert set(ctx.sections["known"]) == SUITES.keys() - {"instructions"}
    monkeypatch.setattr("stages.evaluate.opened", lambda *_: pytest.fail("the model was loaded"))
    again, same, ctx = evaluate({"again_" + name: suite for name, suite in SUITES.items()}, name="same",
                                cache=tmp_path / "cache")  # fmt: skip
    assert list(again.values()) == list(first.values()) and ctx.sections["timing"]["load_seconds"] == 0
    tables = [parquet.read_table(path / "items.parquet") for path in (folder, same)]
    assert tables[0].drop_columns(["suite"]) == tables[1].drop_columns(["suite"])


def test_other_items_and_a_damaged_result_are_measured(evaluate, tmp_path, monkeypatch):
    cache, suites = tmp_path / "cache", {"domain": SUITES["domain"]}
    evaluate(suites, cache=cache)
    changed = {**DATA, "texts": DATA["texts"][:3]}
    _, _, ctx = evaluate(suites, changed, name="changed", cache=cache)
    assert "known" not in ctx.sections
    for file in (cache / "results").rglob("*.json"):
        file.write_text(file.read_text().replace("perplexity", "perplexitx"))
    _, _, ctx = evaluate(suites, name="damaged", cache=cache)
    assert "known" not in ctx.sections
    _, _, ctx = evaluate(suites, name="forced", cache=cache, forced=True)
    assert "known" not in ctx.sections
    monkeypatch.setattr("stages.evaluation.known.digest_code", lambda module: "other code")
    _, _, ctx = evaluate(suites, name="code", cache=cache)
    assert "known" not in ctx.sections


def test_limit_takes_items_from_all_over_the_set_and_always_the_same():
    rows = [{"id": f"i{k}", "answer": k % 2} for k in range(100)]
    kept = spread(rows, 10)
    assert kept == spread(list(rows), 10) and len(kept) == 10
    assert [int(row["id"][1:]) // 10 for row in kept] == list(range(10))  # one from every stretch of ten
    assert 0 < sum(row["answer"] for row in kept) < 10  # a fixed step of ten would see one answer only
    assert spread(rows, 0) == rows == spread(rows, 200)
    assert len({row["id"] for row in spread(rows, 33)}) == 33


def test_limit_is_read(evaluate):
    _, folder, _ = evaluate({"domain": Suite("perplexity", "texts", limit=2)})
    assert json.loads((folder / "summary.json").read_text())["domain"]["n"] == 2


LEVELS = {"texts": [{**row, "level": "hard" if k else "easy", "year": 2000 + k % 2} for k, row in enumerate(
    DATA["texts"])]}  # fmt: skip


def test_results_are_sliced_by_any_column(evaluate):
    _, folder, _ = evaluate({"domain": Suite("perplexity", "texts", slices=["level", "year"])}, LEVELS)
    found = json.loads((folder / "summary.json").read_text())["domain"]["slices"]
    assert {name: one["n"] for name, one in found.items()} == {"level=easy": 1, "level=hard": 3, "year=2000": 2,
                                                               "year=2001": 2}  # fmt: skip


def test_an_item_without_the_column_is_in_a_slice_of_its_own(evaluate):
    data = {"texts": [*LEVELS["texts"], {"id": "x", "text": "Who?", "slices": {"family": "MIT"}}]}
    suite = Suite("perplexity", "texts", slices=["level"], outside=["level=easy"])
    _, folder, _ = evaluate({"domain": suite}, data)
    found = json.loads((folder / "summary.json").read_text())["domain"]
    assert {name: one["n"] for name, one in found["slices"].items()} == {
        "family=MIT": 1, "level=(none)": 1, "level=easy": 1, "level=hard": 3,
    }  # fmt: skip
    assert "gap" in found["details"]["metrics"]  # `outside` sees them as any other slice


@pytest.mark.parametrize(
    ("column", "message"),
    [("levle", "eval.suites.s.slices: no item has a column 'levle' .*did you mean level?"),
     ("colour", "no item has a column 'colour' .*they have id, level, text, year .*`keep` of a data set"),
     ("tags", "no item has a column 'tags' with texts or numbers")],
)  # fmt: skip
def test_a_column_that_no_item_has_is_named(evaluate, column, message):
    with pytest.raises(ConfigError, match=message):
        evaluate({"s": Suite("perplexity", "texts", slices=[column])},
                 {"texts": [{**row, "tags": ["a"]} for row in LEVELS["texts"]]})  # fmt: skip


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        (Suite("perplexty", "texts"), r"eval.suites.s.measure=perplexty: .*did you mean perplexity\?"),
        (Suite("perplexity", "texts", params={"maxlength": 9}), r"s.params.maxlength: .*did you mean max_length\?"),
        (Suite("perplexity", "texts", params={"max_length": "9"}), r"s.params.max_length='9': expected int, got str"),
        (Suite("perplexity", "texts", params={"max_length": 1}), r"s.params.max_length=1: at least 2"),
        (Suite("choice", "facts", params={"normalise": "token"}), r"normalise=token: .*did you mean tokens\?"),
        (Suite("choice", "facts", params={"end_of_turn": 1}), r"end_of_turn=1: expected bool, got int"),
        (Suite("refusal", "safety", params={"side": "both"}), r"side=both: choose one of harmful, benign"),
        (Suite("generate", "tasks", params={"max_new_tokens": True}), r"max_new_tokens=True: expected int"),
        (Suite("generate", "tasks", limit=-1), r"eval.suites.s.limit=-1"),
    ],
)
def test_a_wrong_suite_is_found_before_anything_runs(suite, message):
    with pytest.raises(ConfigError, match=message):
        Evaluate().validate(EvaluateConfig(suites={"s": suite}))


def test_good_suites_are_valid_and_no_suites_are_not():
    Evaluate().validate(EvaluateConfig(suites=SUITES))
    with pytest.raises(ConfigError, match="nothing to measure"):
        Evaluate().validate(EvaluateConfig())


@pytest.mark.parametrize(
    ("suite", "rows", "message"),
    [
        (
            Suite("choice", "d"),
            [{"id": "x", "prompt": PROMPTS[0]}],
            "suite s: item x of data set 'd' has no choices, answer",
        ),
        (
            Suite("refusal", "d"),
            [{"id": "x", "prompt": PROMPTS[0], "harmful": False}],
            "suite s: .*no items for refusal",
        ),
        (Suite("perplexity", "d"), [{"id": "x", "text": ""}], "item x: `text` is empty"),
    ],
)
def test_items_that_cannot_be_measured_are_named_before_the_model_is_loaded(
    evaluate, monkeypatch, suite, rows, message
):
    monkeypatch.setattr("stages.models.chain.load_policy", lambda *a, **k: pytest.fail("loaded"))
    with pytest.raises(DataError, match=message):
        evaluate({"s": suite}, {"d": rows})


def test_a_data_set_without_a_heldout_part_is_named(evaluate, tmp_path):
    (tmp_path / "texts").mkdir()
    data = Artifact("texts", "prepare", "texts", tmp_path / "texts", "d")
    config = EvaluateConfig(suites={"s": Suite("perplexity", "texts")})
    ctx = Context("r", "e", "eval_base", "i", config, {}, {"texts": data}, {}, tmp_path / "out", tmp_path, tmp_path)
    with pytest.raises(DataError, match="data set 'texts' has no held-out part"):
        Evaluate().run(ctx)


def test_the_kind_is_registered():
    assert kind("evaluate").config is EvaluateConfig and kind("evaluate").stage.produces == "results"


def test_every_param_of_every_measurement_has_a_rule():
    """A param whose type is not checked would be taken as it comes."""
    for measurement in MEASUREMENTS.values():
        assert all(
            field.type in (int, float, str, bool, dict, list) for field in dataclasses.fields(measurement.params)
        )


def test_the_gap_to_what_is_unlike_training_is_among_the_details(evaluate):
    facts = [{**row, "slices": {"seen": "no" if k < 2 else "yes"}} for k, row in enumerate(DATA["facts"])]
    _, folder, _ = evaluate({"s": Suite("choice", "facts", outside=["seen=no"])}, {"facts": facts})
    summary = json.loads((folder / "summary.json").read_text())["s"]
    found = summary["details"]["metrics"]
    assert found["outside"]["value"] == summary["slices"]["seen=no"]["value"] and found["inside"]["n"] == 2
    with pytest.raises(DataError, match="suite s: outside: no item is of seen=never"):
        evaluate({"s": Suite("choice", "facts", outside=["seen=never"])}, {"facts": facts})


def test_behaviour_is_measured_like_anything_else(evaluate):
    rows = [
        {**row, "id": f"{row['id']}-{word}", "cluster": row["id"]} for row in DATA["tasks"] for word in ("a", "b", "c")
    ]
    short = {"max_new_tokens": 2}
    suites = {
        "consistency": Suite("consistency", "tasks", limit=2, params={"base_params": short}),
        "robustness": Suite("robustness", "tasks", limit=2, params={"base_params": short, "long_words": 20}),
        "calibration": Suite(
            "calibration", "tasks", params={"base": "generate", "base_params": short, "target_error": 0.1}
        ),
    }
    metrics, folder, _ = evaluate(suites, {"tasks": rows})
    summary = json.loads((folder / "summary.json").read_text())
    assert set(metrics) == set(suites) and summary["consistency"]["n"] == 6 and summary["robustness"]["n"] == 14
    routing = json.loads((folder / "routing.json").read_text())["calibration"]
    assert not routing["routed"] and "too few items" in routing["reason"]
