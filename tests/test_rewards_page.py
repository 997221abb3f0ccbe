"""docs/rewards.md: its examples compose, its tables are complete, its defaults are those of the code."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from pipeline.config.load import load
from stages.evaluation.checks import RULES
from stages.rewards.combined import MODEL, Model, Settings, check, read
from stages.rewards.terms import TERMS
from stages.rl import guards
from stages.rl.guards import Guards

PAGE = (Path(__file__).parent.parent / "docs" / "rewards.md").read_text()
EXAMPLES = dict(re.findall(r"^```yaml (\S+)\n(.*?)^```$", PAGE, re.M | re.S))
COMMANDS = re.findall(r"^journeyman run (.*)$", PAGE, re.M)


def rows(section):
    """Cells of the first table under a heading."""
    text = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.fixture
def page(tmp_path, monkeypatch):
    """page(*overrides) -> the composed experiment, in a folder with the page's files."""
    for name, text in EXAMPLES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOURNEYMAN_STORE", str(tmp_path / "store"))
    return lambda *overrides: load(overrides).experiment


def plan_of(experiment):
    stage = experiment.stages["ppo"]
    check(stage.reward, stage.inputs)
    check(stage.gold, stage.inputs, "gold")
    return read(stage.reward)


def test_every_example_composes_and_says_what_the_page_says(page):
    assert list(EXAMPLES) == ["conf/experiment/concise.yaml", "conf/experiment/formal.yaml"]
    concise, formal = plan_of(page("experiment=concise")), plan_of(page("experiment=formal"))
    assert concise.weights == {"right": 2.0, "helpful": 1.0, "concise": 0.1, "polite": 0.0}
    assert concise.bounds == {"polite": -0.05}
    assert concise.models == {"helpful": "reward"}
    assert formal.weights == {"helpful": 1.0, "right": 0.5, "listed": 0.2, "brief": 0.01}
    assert formal.settings.clip == 5.0


def test_every_command_composes(page):
    sweep, without = COMMANDS
    multirun, experiment, swept = shlex.split(sweep)
    key, _, values = swept.partition("=")
    assert multirun == "-m"
    found = [plan_of(page(experiment, f"{key}={value}")).weights["concise"] for value in values.split(",")]
    assert found == [0, 0.1, 0.3]
    left = page(*shlex.split(without))
    assert plan_of(left).weights == {"right": 2.0, "concise": 0.1, "polite": 0.0}
    assert "reward" not in left.stages["ppo"].inputs


def test_the_table_of_keys_is_that_of_the_code():
    stated = {cells[0].strip("`"): cells[1] for cells in rows("Keys of `reward`")}
    defaults = {f.name: f.default for f in dataclasses.fields(Settings)}
    assert set(stated) == set(defaults)
    assert {name: float(value.replace("false", "0")) for name, value in stated.items() if value} == {
        name: value for name, value in defaults.items() if value is not dataclasses.MISSING
    }


def test_the_table_of_terms_names_every_kind_with_its_keys_and_defaults():
    stated = {}
    for kind, keys, _ in rows("Terms"):
        stated.setdefault(kind.strip("`"), {}).update(
            {key: default or None for key, default in re.findall(r"`(\w+)(?:: (\w+))?`", keys)}
        )
    kinds = {MODEL: Model, **TERMS}
    assert set(stated) == set(kinds)
    for kind, term in kinds.items():
        assert stated[kind] == {f.name: stated_default(f) for f in dataclasses.fields(term)}, kind


def stated_default(field):
    """As the page writes it; none for what a user must give."""
    needed = field.default is dataclasses.MISSING or field.default is None
    return None if needed else str(field.default).replace("False", "false")


def test_the_page_names_every_check():
    assert set(RULES) <= set(re.findall(r"`(\w+)`", PAGE.partition("- Checks are those")[2].partition(". Prompts")[0]))


def test_the_table_of_guards_names_every_alarm_and_every_threshold_with_its_default():
    table = rows("Guards")
    alarms = {name for cells in table for name in re.findall(r"`(\w+)`", cells[0])}
    assert alarms == set(re.findall(r'Alarm\(\s*"(\w+)"', Path(guards.__file__).read_text()))
    stated = {re.match(r"`(\w+)`", cells[2])[1]: float(cells[3]) for cells in table}
    assert stated == {f.name: f.default for f in dataclasses.fields(Guards)}
