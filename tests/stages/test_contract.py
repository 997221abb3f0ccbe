"""`contract`: what the check of a stage's data finds, records and writes, on prepared sets of real files."""

import json

import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.registry import kind
from stages.data import artifact
from stages.data.contract.config import ContractConfig
from stages.data.coverage.config import CoverageConfig
from stages.data.leaks import LeakConfig
from stages.data.misuse.config import GenericConfig, InstructionsConfig
from stages.domain import Rehearsal

CLEAN = [
    ("How do I reset the meter?", "Hold the left button for five seconds until the display shows zero."),
    ("Where is the spare fuse kept?", "It sits in a small tray behind the front panel, next to the battery."),
    ("Can the pump run dry?", "No. Run it for more than a minute without water and the seal burns."),
    ("When was the filter changed last?", "The log names 3 March; the next change is due in September."),
    ("Which oil does the gear box take?", "Any mineral oil of grade 68. The box holds one and a half litres."),
    ("Who may open the cabinet?", "Only people with the blue card, and never while the fan turns."),
    ("Does frost harm the sensor?", "Below minus ten degrees it reads too low, but it recovers by itself."),
    ("What does the red lamp mean?", "The belt slips. Stop the machine and tighten the two outer screws."),
    ("How long does charging take?", "About four hours from empty; it may stay on the charger overnight."),
    ("Is the hose part of the delivery?", "Yes, three metres of it, with both couplings already mounted."),
    ("Why does the valve hiss?", "Air leaves the line after a stop. A hiss of some seconds is normal."),
    ("Where do complaints go?", "To the desk on the ground floor, with the number of the machine."),
]


@pytest.fixture
def prepared(bench, tmp_path):
    """prepared(name, rows, **settings) -> the data set, as `prepare` makes it from a file of these rows."""

    def make(name, rows, **settings):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = kind("prepare").config(kind="prepare", files=[str(file)], **settings)
        return bench.run(bench.context(name, config, {}, {})).artifact

    return make


@pytest.fixture
def checked(bench, base):
    """checked(stage, data, ...) -> the finished check: .sections, .artifact, .metrics, and .found: code -> finding."""

    def check(stage, data, after=(), training=None, inputs=None, **contract):
        config = kind("contract").config(
            kind="contract", stage=stage, max_length=64, after=list(after), training=training or {},
            contract=ContractConfig(**contract),
        )  # fmt: skip
        made = bench.run(bench.context(f"check_{stage}", config, {"start": base, **(inputs or {})}, data))
        made.found = {finding["code"]: finding for finding in made.sections["findings"]}
        return made

    return check


def chats(pairs=CLEAN):
    return [{"prompt": prompt, "response": response} for prompt, response in pairs]


def texts(*, cluster="manual"):
    return [
        {"text": f"{prompt} {response} {cluster}", "cluster": f"{cluster}{i}"}
        for i, (prompt, response) in enumerate(CLEAN)
    ]


# -- what is found ------------------------------------------------------------------------------------------------
def test_a_clean_set_has_no_error_and_no_warning(prepared, checked):
    made = checked("sft", {"train": prepared("chats", chats())})
    assert not [finding for finding in made.sections["findings"] if finding["level"] != "info"]
    assert made.metrics["errors"] == made.metrics["warnings"] == 0
    written = json.loads((made.artifact.path / "findings.json").read_text())
    assert written == json.loads(json.dumps(made.sections["findings"]))


def test_a_set_without_a_row_to_train_on_is_an_error(prepared, checked):
    empty = prepared("chats", chats())
    (empty.path / "data" / "train.jsonl").write_text("")
    finding = checked("sft", {"train": empty}).found["no_rows"]
    assert finding["level"] == "error" and "holdout" in finding["remedy"]


def test_a_finding_names_its_set_file_line_and_what_to_do(prepared, checked):
    made = checked("domain", {"train": prepared("chats", chats())}, after=["sft"])
    finding = made.found["wrong_form"]
    assert (finding["level"], finding["data"], finding["count"], finding["of"]) == ("error", "chats", 12, 12)
    assert finding["examples"][0]["file"].endswith("chats.jsonl") and finding["examples"][0]["line"] == 1
    assert "sft" in finding["remedy"]


def test_levels_and_accepted_reasons_are_the_configurations(prepared, checked):
    data, alone = {"train": prepared("chats", chats())}, {"rehearsal": {"share": 0.0}}

    def found(level, **more):
        made = checked("domain", data, after=["sft"], training=alone, levels={"wrong_form": level}, **more)
        return made.found.get("wrong_form")

    assert found("warning")["level"] == "warning" and found("off") is None
    accepted = found("warning", accepted={"wrong_form": "a test"})
    assert (accepted["level"], accepted["accepted"]) == ("info", "a test")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"levels": {"wrong_from": "error"}}, "levels.wrong_from: unknown finding .*did you mean 'wrong_form'"),
        ({"levels": {"wrong_form": "fatal"}}, "levels.wrong_form=fatal: use error, warning, info or off"),
        ({"version": 7}, "version=7: this version of Journeyman has the rules of version 1"),
        ({"leaks": "ignore"}, "leaks=ignore: use refuse or drop"),
        ({"accepted": {"wrong_form": " "}}, "accepted.wrong_form: say why"),
        ({"personal": ["mail"]}, "personal: unknown kind 'mail'"),
        ({"regions": ["Sweden"]}, "contract.regions: 'Sweden' is no country code"),
        ({"near_duplicates": 1.5}, "contract.near_duplicates=1.5: give a share"),
        ({"near_duplicates": 0.3}, "contract.near_duplicates=0.3: give a similarity from 0.5 to 1"),
        ({"group": 0}, "contract.group=0: give a whole number from 1"),
        ({"outlier": -1.0}, "contract.outlier=-1.0: give a number above 0"),
        ({"leak": LeakConfig(overlap=50.0)}, "contract.leak.overlap=50.0: give a share above 0"),
        ({"instructions": InstructionsConfig(max_share=3.0)}, "contract.instructions.max_share=3.0: give a share"),
        ({"generic": GenericConfig(most_rows=0)}, "contract.generic.most_rows=0: give a whole number"),
        ({"coverage": CoverageConfig(psi=0.0)}, "contract.coverage.psi=0.0: give a number above 0"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, message):
    config = kind("contract").config(kind="contract", stage="sft", contract=ContractConfig(**settings))
    with pytest.raises(ConfigError, match=message):
        kind("contract").stage().validate(config)


# -- the order of the stages --------------------------------------------------------------------------------------
def test_domain_training_without_instruction_tuning_before_it_is_an_error(prepared, checked):
    data = {"train": prepared("texts", texts(), format="text")}
    alone = Rehearsal(share=0.0)
    assert checked("domain", data, training={"rehearsal": vars(alone)}).found["stage_order"]["level"] == "error"
    assert "stage_order" not in checked("domain", data, after=["sft"], training={"rehearsal": {"share": 0.0}}).found


# -- the sample of the domain -------------------------------------------------------------------------------------
def test_a_sample_that_says_too_little_is_told(prepared, checked):
    data = {"train": prepared("texts", texts(), format="text")}
    alone = {"rehearsal": {"share": 0.0}}
    assert "unusable_sample" not in checked("domain", data, after=["sft"], training=alone).found
    data["domain_sample"] = prepared("field", texts(cluster="field"), format="text")
    found = checked("domain", data, after=["sft"], training=alone).found["unusable_sample"]
    assert found["level"] == "warning" and "field.jsonl" in found["examples"][0]["file"]


# -- leaks --------------------------------------------------------------------------------------------------------
@pytest.fixture
def leaking(prepared):
    """Training chats of which two are measured as well, and what is measured."""
    training = prepared("chats", chats())
    measured = prepared("quiz", chats(CLEAN[:2]), holdout=1.0)
    return {"train": training, "measured_quiz": measured}


def test_rows_that_are_also_measured_are_an_error_that_names_both(leaking, checked):
    finding = checked("sft", leaking).found["evaluation_leak"]
    assert finding["level"] == "error" and finding["count"] == 2
    assert (
        finding["examples"][0]["file"].endswith("chats.jsonl")
        and "quiz.jsonl, line 1" in finding["examples"][0]["text"]
    )


def test_they_can_be_dropped_and_are_counted(leaking, checked, bench, base):
    made = checked("sft", leaking, leaks="drop")
    assert made.found["evaluation_leak"]["level"] == "warning" and made.metrics["errors"] == 0
    left_out = artifact.dropped(made.artifact)
    assert len(left_out["chats"]) == 2 and made.sections["data"]["rows_kept"] == len(CLEAN) - 2
    config = bench.config("sft", data={"train": "chats"}, train={"max_steps": 1})
    trained = bench.run(
        bench.context("sft", config, {"policy": base, "checked": made.artifact}, {"train": leaking["train"]})
    )
    assert trained.sections["dropped"] == {"chats": 2} and trained.sections["data"]["rows_kept"] == len(CLEAN) - 2


@pytest.mark.parametrize(
    ("settings", "level"),
    [
        ({"levels": {"evaluation_leak": "error"}}, "warning"),
        ({"levels": {"evaluation_leak": "info"}}, "info"),
        ({"levels": {"evaluation_leak": "off"}}, None),
        ({"accepted": {"evaluation_leak": "known"}}, "info"),
    ],
)
def test_what_is_dropped_is_a_warning_at_most(leaking, checked, settings, level):
    found = checked("sft", leaking, leaks="drop", **settings).found.get("evaluation_leak")
    assert (found and found["level"]) == level


def test_what_earlier_stages_were_trained_on_is_compared_too(leaking, prepared, checked):
    data = {"upstream:sft": leaking["train"], "measured_quiz": leaking["measured_quiz"],
            "train": prepared("texts", texts(cluster="other"), format="text")}  # fmt: skip
    made = checked("domain", data, after=["sft"], training={"rehearsal": {"share": 0.0}})
    assert "chats.jsonl" in made.found["evaluation_leak"]["examples"][0]["file"]


def test_what_an_earlier_stage_dropped_is_no_leak_of_a_later_one(leaking, prepared, checked, bench):
    first = checked("sft", leaking, leaks="drop").artifact
    data = {"upstream:sft": leaking["train"], "measured_quiz": leaking["measured_quiz"],
            "train": prepared("texts", texts(cluster="other")[2:], format="text")}  # fmt: skip
    replay = {"rehearsal": {"share": 0.2, "general": 0.0, "safety_floor": 0.0}}
    settings = {"after": ["sft"], "training": replay, "levels": {"generic_data_as_domain": "off"}}
    assert checked("domain", data, **settings).found["evaluation_leak"]["level"] == "error"
    later = checked("domain", data, inputs={"upstream:sft": first}, **settings)
    assert "evaluation_leak" not in later.found and later.metrics["errors"] == 0
    again = checked("domain", {**data, "general": leaking["train"]}, inputs={"upstream:sft": first}, **settings)
    assert again.found["evaluation_leak"]["count"] == 2  # the later stage itself reads all of the set


# -- the mixture and the page -------------------------------------------------------------------------------------
def test_the_mixture_that_would_be_trained_on_is_recorded(prepared, checked):
    data = {"upstream:sft": prepared("chats", chats()), "train": prepared("texts", texts(), format="text")}
    rehearsal = {"share": 0.2, "safety_floor": 0.0, "general": 0.0}
    made = checked(
        "domain", data, after=["sft"], training={"rehearsal": rehearsal}, levels={"generic_data_as_domain": "off"}
    )
    mixture = made.sections["data"]["mixture"]
    assert abs(mixture["rehearsal:replay"]["realised"] - 0.2) <= 0.005 and list(mixture) == [
        "texts",
        "rehearsal:replay",
    ]


def test_rehearsal_of_what_nobody_was_trained_on_is_told_before_training(prepared, checked):
    data = {"train": prepared("texts", texts(), format="text")}
    with pytest.raises(DataError, match="there is none above this stage"):
        checked("domain", data, after=["sft"], levels={"generic_data_as_domain": "off"})


def test_every_set_has_its_page(prepared, checked):
    made = checked("sft", {"train": prepared("chats", chats())})
    page = (made.artifact.path / "quality" / "chats" / "quality.html").read_text()
    assert "How do I reset the meter?" in page and "12" in page
    assert "How do I reset the meter?" in (made.artifact.path / "quality" / "chats" / "quality.md").read_text()
