# All that a newcomer needs: `make demo` runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
export OMP_NUM_THREADS ?= 1
COUNT  ?= 10000

.PHONY: help setup demo demo-science test test-all seeds lint docs clean

help:             ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

setup: $(STAMP)   ## make .venv and install everything pinned in constraints.txt

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed; say `make PYTHON=python3.11 ...`")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[model,local,dev]'
	touch $(STAMP)

demo: setup       ## the quickstart: from made data to screened structures, in minutes
	$(BIN)/python -m model.data.quickstart quickstart-data
	$(BIN)/campaign run campaigns/quickstart.yaml

demo-science: setup  ## what sharing a backbone is worth: four arms, three seeds, equal CPU time
	$(BIN)/python -m model.data.quickstart quickstart-data
	$(BIN)/python -m campaigns.demo_science quickstart-data

test: setup       ## every test but the slow ones, as CI runs them
	@sh tests/system_packages.sh
	$(BIN)/python -m pytest -m 'not slow and not gpu' -n 3 --dist loadgroup

test-all: setup   ## the slow ones too
	@sh tests/system_packages.sh
	$(BIN)/python -m pytest -m 'not gpu' -n 3 --dist loadgroup

seeds: setup      ## made-up histories of failures against the promises of durable execution; COUNT=1000000 for a night
	PYTHONPATH=.:tests $(BIN)/python -m seeds --count $(COUNT)

lint: setup       ## ruff, mypy, codespell, yamllint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/yamllint -s sites campaigns finetune_tasks .pre-commit-config.yaml mkdocs.yml

docs: setup       ## the manual, into site/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

clean:            ## remove what was made, but not .venv
	rm -rf build dist runs site quickstart-data .pytest_cache .mypy_cache .ruff_cache

.PHONY: bench-orchestrator bench-data bench-train bench-md

bench-orchestrator: setup  ## what a task, a resume, a status and failures cost
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.orchestrator

bench-data: setup  ## batches out of our store beside LMDB and memory maps; minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.data

bench-train: setup  ## one training step of the lead model beside plain eager code; minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.train

bench-md: setup  ## energy kept over 10 ps of dynamics with each backbone; half an hour
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.dynamics
