"""Gates that stand for several, written out for the stages and suites of an experiment."""

import pytest

from pipeline.config.patterns import told, written_out
from pipeline.errors import ConfigError
from pipeline.schema import Gate, Suite

KEEP = Gate("every", "about=safety", "not_worse", margin=0.05)
STEP = Gate("every", "about=safety", "not_worse", "input", margin=0.1, action="warn")


@pytest.fixture
def experiment(chain):
    """experiment(gates) -> stages first and second, suites quiz (nothing said of it), harm and alarm (safety)."""

    def make(models=None, **gates):
        made = chain(gates=gates)
        made.eval.models = models
        made.eval.suites |= {name: Suite("choice", "quiz", about="safety") for name in ("harm", "alarm")}
        return made

    return make


def test_a_pattern_becomes_a_gate_for_each_stage_and_each_suite_about_it(experiment):
    found = written_out(experiment(keep=KEEP))
    assert list(found) == ["keep_first_harm", "keep_first_alarm", "keep_second_harm", "keep_second_alarm"]
    assert found["keep_second_harm"] == Gate("second", "harm", "not_worse", margin=0.05)


def test_without_a_suite_about_it_there_is_none(experiment):
    assert written_out(experiment(keep=Gate("every", "about=general", "not_worse"))) == {}


def test_half_a_pattern_keeps_its_other_half(experiment):
    one_stage = Gate("second", "about=safety", "at_least", value=0.5)
    one_suite = Gate("every", "quiz", "at_least", value=0.5)
    assert list(written_out(experiment(a=one_stage))) == ["a_harm", "a_alarm"]
    assert list(written_out(experiment(b=one_suite))) == ["b_first", "b_second"]


def test_a_first_stage_has_its_input_and_the_start_in_one(experiment):
    found = written_out(experiment(keep=KEEP, step=STEP))
    assert [name for name in found if name.startswith("step")] == ["step_second_harm", "step_second_alarm"]
    assert found["step_second_harm"].against == "input"


def test_a_gate_that_says_the_same_takes_its_place(experiment):
    own = Gate("second", "harm", "not_worse", margin=0.2, action="warn")
    found = written_out(experiment(keep=KEEP, mine=own))
    assert found["mine"] == own and "keep_second_harm" not in found and "keep_second_alarm" in found
    other = Gate("second", "harm", "not_worse", "first")
    assert "keep_second_harm" in written_out(experiment(keep=KEEP, mine=other)), "another model is another question"


def test_a_pattern_is_silent_where_nothing_can_be_compared(experiment):
    assert written_out(experiment(["first", "second"], keep=KEEP)) == {}
    assert list(written_out(experiment(["base", "second"], keep=KEEP, step=STEP))) == [
        "keep_second_harm", "keep_second_alarm"
    ]  # fmt: skip
    champion = Gate("every", "about=safety", "not_worse", "champion")
    assert len(written_out(experiment(["second"], keep=champion))) == 2


def test_a_name_that_is_taken_is_refused(experiment):
    own = Gate("first", "quiz", "at_least", value=0.1)
    with pytest.raises(ConfigError, match=r"gates\.keep_first_harm: the gate keep makes one of this name"):
        written_out(experiment(keep=KEEP, keep_first_harm=own))


def test_a_subject_that_nobody_knows_is_refused(experiment):
    with pytest.raises(ConfigError, match=r"gates\.keep\.suite=about=sfety: suites are about general, safety, domain"):
        written_out(experiment(keep=Gate("every", "about=sfety", "not_worse")))


def test_what_was_written_out_is_told_in_one_sentence(experiment):
    made = experiment(keep=KEEP, keep_step=STEP)
    (sentence,) = told(made.gates, written_out(made))
    assert "4 of keep, 2 of keep_step" in sentence
    assert told({}, {}) == []


SAFE = "eval.suites.quiz.about=safety"


def test_they_are_in_every_experiment_and_can_be_taken_out(project):
    from pipeline.config.load import load

    def names(*words):
        return list(load(["experiment=chain", *words]).experiment.gates)

    usual = ["safety_first_quiz", "safety_second_quiz", "safety_step_second_quiz"]
    assert names() == [] and names(f"+{SAFE}") == usual
    assert names(f"+{SAFE}", "~gates.safety_step") == usual[:2]
    loose = load(["experiment=chain", f"+{SAFE}", "gates.safety.action=warn"])
    assert loose.experiment.gates["safety_first_quiz"].action == "warn"
    assert loose.resolved["gates"]["safety_first_quiz"]["action"] == "warn", "as the report reads it"
    assert any("2 of safety, 1 of safety_step" in sentence for sentence in loose.chosen)


def test_what_a_suite_may_be_about_is_checked(project):
    from pipeline.config.load import load

    with pytest.raises(ConfigError, match=r"eval\.suites\.quiz\.about=safty: use general, safety, domain.*'safety'"):
        load(["experiment=chain", "+eval.suites.quiz.about=safty"])


def test_what_a_suite_is_about_is_no_part_of_an_id(chain):
    from pipeline.graph import make_nodes

    before, plain = make_nodes(chain()), chain()
    plain.eval.suites["quiz"].about = "safety"
    assert {name: node.id for name, node in make_nodes(plain).items()} == {n: node.id for n, node in before.items()}
