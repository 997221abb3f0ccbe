# The commands of a checkout; `make` alone lists them. Each makes the environment first if it is missing or outdated.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help setup named pipeline plan sweep retrain test check bench docs clean

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
BIN := .venv/bin
READY := .venv/project.stamp

EXP ?=
SET ?=
FROM ?=
UNTIL ?=
FORCE ?=
ARGS ?=

help:
	@echo "make setup                  make .venv from requirements.lock"
	@echo "make pipeline EXP=legal     build, evaluate, judge, report      [SET=] [FROM=] [UNTIL=] [FORCE=]"
	@echo "make plan EXP=legal         what that would do, and why         [SET=] [FROM=] [UNTIL=] [FORCE=]"
	@echo "make sweep EXP=legal SET=   one run for each combination        SET=\"stages.dpo.train.beta=0.05,0.1\""
	@echo "make retrain EXP=legal      train what changed, judge against the champion, promote or refuse   [SET=] [ARGS=--dry-run]"
	@echo "make test                   the tests                           [ARGS=\"-k store\"]"
	@echo "make check                  style, types, licences and known weaknesses of dependencies"
	@echo "make bench                  a training step against TRL's     [ARGS=\"--workload dpo\"]"
	@echo "make docs                   write the tables of docs/config.md from the code"
	@echo "make clean                  remove .venv and caches; the store stays"
	@echo
	@echo "SET: overrides, as in SET=\"budget=gpu stages.dpo.train.beta=0.2\".  Experiments: $(EXPERIMENTS)"

EXPERIMENTS = $(sort $(basename $(notdir $(wildcard conf/experiment/*.yaml))))

# -- environment -------------------------------------------------------------------------------------------------
setup: $(READY)

# The copy of the lock says what is installed; a lock that was only touched costs nothing.
.venv/requirements.lock: requirements.lock
	@cmp -s requirements.lock $@ || scripts/setup.sh "$(PYTHON)"
	@cp requirements.lock $@

$(READY): .venv/requirements.lock pyproject.toml
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# -- the chain ---------------------------------------------------------------------------------------------------
# make itself ends with 2 for any failure, so the command's own code is printed.
FLAGS = $(if $(FROM),--from $(FROM)) $(if $(UNTIL),--until $(UNTIL)) $(if $(FORCE),--force $(FORCE))
journeyman = @set -f; $(BIN)/journeyman $(1) experiment=$(EXP) $(SET) $(FLAGS) || \
	{ code=$$?; echo "journeyman ended with exit code $$code (docs/cli.md lists them)" >&2; exit $$code; }

named:
	@$(if $(EXP),:,echo "give an experiment: EXP=NAME, one of: $(EXPERIMENTS)" >&2; exit 2)

pipeline: named $(READY)
	$(call journeyman,run)

plan: named $(READY)
	$(call journeyman,plan)

sweep: named $(READY)
	$(call journeyman,run -m)

retrain: named $(READY)
	$(call journeyman,retrain $(ARGS))

# -- development -------------------------------------------------------------------------------------------------
test: $(READY)
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/audit.py

bench: $(READY)
	HF_HUB_OFFLINE=1 $(BIN)/python scripts/bench_step.py $(ARGS)
	@$(BIN)/python scripts/bench_step.py --report

docs: $(READY)
	$(BIN)/python scripts/config_reference.py

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find pipeline stages conf tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
