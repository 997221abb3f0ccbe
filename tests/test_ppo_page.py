"""docs/ppo.md: its YAML composes, its table has the defaults of the code, and its rounds are made as it says."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml

from pipeline.config.load import load
from pipeline.graph import make_nodes
from pipeline.registry import kind
from stages.rewards.combined import Settings
from stages.rl.config import ESTIMATORS
from stages.rl.guards import COLLAPSES

PAGE = (Path(__file__).parent.parent / "docs" / "ppo.md").read_text()
STAGES, ROUNDS = (yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S))
BEFORE = """# @package _global_
defaults:
  - /data@data.chats: smoke_chat
  - /data@data.pairs: smoke_pairs
  - /stage@stages.domain: sft
  - override /model: toy
  - _self_
name: page
data: {prompts: {format: generate, files: [prompts.jsonl], holdout: 0}}
"""
QUICK = """
  ppo: &quick
    max_length: 256
    peft: {r: 4, alpha: 8}
    runtime: {threads: 1}
    rollout: {max_new_tokens: 6}
    train: {max_steps: 1, minibatches: 1}
  domain: {max_length: 256, peft: {r: 4, alpha: 8}, train: {max_steps: 1}, runtime: {threads: 1}}
  reward: {max_length: 256, peft: {r: 4, alpha: 8}, normalise: {count: 4, max_new_tokens: 4}, runtime: {threads: 1}}
"""


@pytest.fixture
def page(tmp_path, monkeypatch):
    """page(rounds) -> a folder with the page's experiment, with the stage of its second example where `rounds`."""

    def write(rounds=None, quick=None):
        stages = {"domain": {"inputs": {"policy": "base"}, "data": {"train": "chats"}}, **STAGES["stages"]}
        if rounds:
            stages["ppo"] = {**stages["ppo"], **ROUNDS["ppo"], "rounds": rounds}
        for name, settings in (quick or {}).items():
            stages[name] = {**stages[name], **settings}
        folder = tmp_path / "conf" / "experiment"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "page.yaml").write_text(BEFORE + yaml.safe_dump({"stages": stages}))
        rows = [{"prompt": f"Name {n} of the colours", "check": {"type": "words", "min": 1}} for n in range(8)]
        (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("JOURNEYMAN_STORE", str(tmp_path / "store"))
        return tmp_path

    return write


@pytest.mark.parametrize("rounds", [None, 3])
def test_the_yaml_composes_and_is_valid(page, rounds):
    page(rounds)
    made = load(["experiment=page"]).experiment
    assert make_nodes(made)["ppo"].inputs["reward"] == ("reward_round3" if rounds else "reward")
    for config in made.stages.values():
        kind(config.kind).stage().validate(config)


def test_rounds_are_the_stages_that_the_page_draws(page):
    page(3)
    drawn = re.search(r"^    (ppo_round1 -> .*)$", PAGE, re.M)[1].split(" -> ")
    made = load(["experiment=page"]).experiment.stages
    assert [name for name in made if name not in ("domain", "reward")] == drawn
    assert [made[f"ppo_labels{n}"].file for n in (1, 2)] == ["labels/round1.jsonl", "labels/round2.jsonl"]


def test_data_are_checked_before_anything_is_trained_on_them(page):
    """All that are there before the first stage; fresh labels before the reward model that learns from them."""
    page(3)
    order = list(make_nodes(load(["experiment=page"]).experiment))
    assert max(map(order.index, ("check_domain", "check_reward", "check_ppo_round1"))) < order.index("domain")
    for number in (2, 3):
        labels, check, reward = f"ppo_labels{number - 1}", f"check_reward_round{number}", f"reward_round{number}"
        assert order.index(labels) < order.index(check) < order.index(reward)


def test_what_legal_has_built_is_shared():
    legal, rlhf = (make_nodes(load([f"experiment={name}"]).experiment) for name in ("legal", "legal_rlhf"))
    own = {name for name in legal if name in rlhf and legal[name].id != rlhf[name].id}
    # Of one suite more items are measured.
    assert "dpo" in rlhf and own == {f"eval_{name}" for name in ("base", "sft", "domain", "dpo")}
    assert rlhf["ppo"].inputs["policy"] == "domain"


def test_the_table_has_the_keys_and_defaults_of_the_code():
    config = kind("ppo").config()
    stated = re.findall(r"^\| (`[\w.`, ]+`) \| ([^|]+) \|", PAGE, re.M)
    known = {
        "off": "False 0.0",
        "`k1`": "k1",
        "0.05": "0.05",
        "0 (fixed)": "0.0",
        "10,000": "10000.0",
        "`fresh`": "fresh",
        "`value`": "value",
        "0 (none)": "0.0",
        "4": "4",
    }
    assert len(stated) == 6
    for names, values in stated:
        names, values = re.findall(r"`([\w.]+)`", names), re.split(r", (?!0)|(?<=\)), ", values)
        for name, value in zip(names, values if len(values) == len(names) else values * len(names), strict=True):
            assert default(config, name) in known[value.strip()].split(), name
    assert set(ESTIMATORS) <= set(re.findall(r"k\d", PAGE)) and len(COLLAPSES) == 5


def default(config, name):
    if name == "reward.clip":
        return str(Settings().clip)
    part, _, key = name.partition(".")
    return str({f.name: getattr(getattr(config, part), f.name) for f in dataclasses.fields(getattr(config, part))}[key])


@pytest.mark.slow
def test_people_label_between_two_rounds(page, command):
    """Slow: six stages on the toy, in processes of their own."""
    folder = page(2, quick=yaml.safe_load(QUICK))
    words = ("run", "experiment=page", "--json", "tracker=none")
    asked = command(*words, store=folder / "store", cwd=folder)
    assert asked.code == 4, asked.err
    waiting = (folder / "labels" / "round1.jsonl.ask.jsonl").read_text().splitlines()
    lines = [json.dumps({"id": json.loads(line)["id"], "prefers": "ab"[n % 2]}) for n, line in enumerate(waiting)]
    (folder / "labels" / "round1.jsonl").write_text("\n".join(lines))
    done = command(*words, store=folder / "store", cwd=folder)
    assert done.code == 0, done.err
    status = {name: stage["status"] for name, stage in done.json["stages"].items()}
    assert (
        status["ppo_round1"] == "HIT" and status["ppo_labels1"] == status["reward_round2"] == status["ppo"] == "BUILT"
    )
