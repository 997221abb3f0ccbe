"""Judges and opponents of suites: inputs of the evaluations that read them, part of their ids, built before them."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeline.beside import roles, suitable
from pipeline.errors import ConfigError
from pipeline.graph import make_nodes
from pipeline.registry import kind
from pipeline.schema import Evaluation, Experiment, ModelConfig, Suite

PARAMS = {"max_new_tokens": 8}


def stage(name, policy="base", **fields):
    config = kind(name).config
    return config(kind=name, inputs={"policy": policy}, data={"train": "pairs"}, **fields)


def experiment(suites, judge="toy", **parts):
    """base -> sft -> dpo, a reward model on sft, and a model of its own that is imported to judge."""
    pairs = kind("prepare").config(kind="prepare", format="preference", builder="smoke_pairs", holdout=0.3)
    stages = {
        "sft": stage("sft"), "dpo": stage("dpo", "sft"), "rm": stage("reward", "sft"),
        "judge": kind("base").config(kind="base", model=ModelConfig(source=judge)),
    }  # fmt: skip
    return Experiment(
        name="duel", model=ModelConfig(source="toy"), data={"pairs": pairs}, stages=stages,
        eval=Evaluation(suites=suites, **parts),
    )  # fmt: skip


def wins(**named):
    return Suite("win_rate", "pairs", params=PARAMS, **named)


def test_judge_and_opponent_are_inputs_and_stand_before_the_evaluation():
    nodes = make_nodes(experiment({"wins": wins(judge="rm", against="base")}))
    assert nodes["eval_dpo"].inputs == {"model": "dpo", "judge_rm": "rm", "against_base": "base"}
    order = list(nodes)
    assert order.index("rm") < order.index("eval_base") < order.index("eval_sft")
    assert nodes["eval_dpo"].payload["inputs"]["judge_rm"] == nodes["rm"].id


def test_input_is_what_each_stage_continues_and_the_start_has_none():
    suites = {"wins": wins(judge="judge", against="input"), "pairs": Suite("preference", "pairs")}
    nodes = make_nodes(experiment(suites))
    assert nodes["eval_dpo"].inputs["against_input"] == "sft"
    assert nodes["eval_sft"].inputs["against_input"] == "base"
    assert list(nodes["eval_base"].config.suites) == ["pairs"]
    assert "eval_base" not in make_nodes(experiment({"wins": suites["wins"]}))  # nothing is left to measure


def test_a_model_is_not_compared_with_one_that_is_made_from_it():
    suites = {"wins": wins(judge="rm", against="dpo"), "pairs": Suite("preference", "pairs")}
    nodes = make_nodes(experiment(suites))
    measured = {name for name, node in nodes.items() if "wins" in getattr(node.config, "suites", {})}
    assert measured == {"eval_dpo"}


def test_an_imported_judge_is_measured_only_where_it_is_asked_for():
    suites = {"wins": wins(judge="judge", against="base")}
    assert "eval_judge" not in make_nodes(experiment(suites))
    assert "eval_judge" in make_nodes(experiment(suites, models=["judge"]))


def test_what_judges_is_part_of_the_evaluations_id(tmp_path):
    suites = {"wins": wins(judge="judge", against="base")}
    other = tmp_path / "judge"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "llama"}')
    save_file({"weight": np.ones(2, dtype=np.float32)}, other / "model.safetensors")
    first, second = (make_nodes(experiment(suites, judge=source)) for source in ("toy", str(other)))
    assert first["eval_dpo"].id != second["eval_dpo"].id and first["dpo"].id == second["dpo"].id


def test_what_judges_are_asked_is_part_of_the_id_only_where_there_is_one(monkeypatch):
    from stages.evaluation import judge_prompts

    suites = {"wins": wins(judge="judge", against="base")}, {"pairs": Suite("preference", "pairs")}
    before = [make_nodes(experiment(each))["eval_dpo"].id for each in suites]
    monkeypatch.setattr(judge_prompts, "VERSION", "other")
    after = [make_nodes(experiment(each))["eval_dpo"].id for each in suites]
    assert before[0] != after[0] and before[1] == after[1]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"judge": "rn", "against": "base"}, r"eval.suites.wins.judge: there is no judge 'rn' \(did you mean 'rm'\?\)"),
        (
            {"judge": "pairs", "against": "base"},
            "eval.suites.wins.judge: 'pairs' makes data, but model or reward is needed",
        ),
        (
            {"judge": "rm", "against": "rm"},
            "eval.suites.wins.against: 'rm' makes reward, but model or prompted is needed",
        ),
        ({"judge": "rm", "against": "start"}, "eval.suites.wins.against: there is no model 'start'"),
    ],
)
def test_a_name_that_cannot_judge_or_answer_is_refused(named, message):
    with pytest.raises(ConfigError, match=message):
        make_nodes(experiment({"wins": wins(**named)}))


def test_a_measurement_that_reads_no_other_model_refuses_one():
    evaluate = kind("evaluate")
    config = evaluate.config(kind="evaluate", suites={"s": Suite("preference", "pairs", judge="rm")})
    with pytest.raises(ConfigError, match=r"eval.suites.s.judge=rm: this measurement reads no other model"):
        evaluate.stage().validate(config)


def test_roles_name_the_stage_and_suites_share_them():
    suites = {"a": wins(judge="rm", against="base"), "b": wins(judge="rm"), "c": wins(against="input")}
    assert roles(suites, "sft") == {"judge_rm": "rm", "against_base": "base", "against_input": "sft"}
    assert list(suitable(suites, "base", None, {})) == ["a", "b"]
