# `make help` lists what there is. Every target sets up what it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
KILLS ?= 30
LOAD ?= 600
SETUP := $(VENV)/.done
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Containers often set it. Each stage is a process, and would compile again every module that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup repro test test-fast browser serve-test load small bench faults cluster fuzz mutants audit docs build lint clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(SETUP)  ## make .venv with everything pinned in requirements.txt

$(SETUP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed; try make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	$(BIN)/adshift offline-plots
	@touch $@

repro: setup  ## run the pipeline, JOBS=2 stages at once, and print the summary
	@adshift repro --jobs $(JOBS)
	@adshift summary
	@echo "the report: report/index.html   what changed: dvc metrics diff   everything else: README.md"

test: setup  ## run the tests in random order; the seed is printed, SEED=N repeats one
	@python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --durations=15 --durations-min=5 $(if $(SEED),--randomly-seed=$(SEED))

test-fast: setup  ## the quick half of the unit tests, for while you work
	@python -m pytest --fast --numprocesses auto --dist load tests/unit tests/house

browser: setup  ## the report page in Chromium, this run's too; ADSHIFT_CHROMIUM=PATH names the browser
	@ADSHIFT_BROWSER=required python -m pytest tests/browser

serve-test: setup  ## the service beside a real broker, browser and failing receiver, then `make load`
	@ADSHIFT_LINE=required ADSHIFT_BROWSER=required python -m pytest tests/line
	@$(MAKE) --no-print-directory load LOAD=$(LOAD)

load: setup  ## the service under load and faults for LOAD=600 seconds
	@python tests/line/load.py --seconds $(LOAD) $(if $(filter 600,$(LOAD)),--record)

small: setup  ## the wheel in an empty environment: its size, and seconds to an answer
	@python tests/house/small.py

bench: setup  ## ours against the peers; ONLY=NAME for one benchmark
	@python benchmarks/run.py $(ONLY)

faults: setup  ## kills, damage, a full disk, in runs of the pipeline; long; ONLY="kills disk" for some, KILLS=9 for fewer
	@python tests/faults/run.py $(if $(ONLY),--only $(ONLY)) --kills $(KILLS)

cluster: setup  ## a real SLURM on this machine runs stages and the sample: root, slurm-wlm and munge; long
	@$(BIN)/python -c 'import dask_jobqueue' 2>/dev/null || $(BIN)/uv pip install --quiet --python $(BIN)/python distributed dask-jobqueue
	@ADSHIFT_KNOBS=all python -m pytest tests/pipeline/test_cluster_run.py
	@python tests/cluster/slurm.py

fuzz: setup  ## 10,000 mutated images and params files: minutes; writes docs/results/fuzz.json
	@python tests/faults/fuzz.py

mutants: setup  ## small bugs in the core's modules against their tests; ONLY=evaluation for one; writes docs/results/mutants.json
	@$(BIN)/python -c 'import mutmut' 2>/dev/null || $(BIN)/uv pip install --quiet --python $(BIN)/python mutmut==3.8.1
	@python tests/house/mutants.py $(ONLY)

audit: setup  ## pinned packages against known vulnerabilities, as far as a service answers
	@$(BIN)/python -c 'import pip_audit' 2>/dev/null || $(BIN)/uv pip install --quiet --python $(BIN)/python pip-audit
	@python tests/house/audit.py

docs: setup  ## the documentation site in site/, links checked; to search it: python -m http.server --directory site
	@NO_MKDOCS_2_WARNING=1 python -m mkdocs build --quiet
	@echo "the site: site/index.html"

build: setup  ## source distribution and wheel in dist/, checked by twine
	@$(BIN)/python -c 'import build, twine' 2>/dev/null || $(BIN)/uv pip install --quiet --python $(BIN)/python build twine
	@rm -rf dist && python -m build && twine check --strict dist/*

lint: setup  ## ruff, mypy, and which room may import which
	@ruff check . && ruff format --check . && mypy && mypy $(MEASURED) && lint-imports --no-cache --no-logo

# Scripts that measure are run seldom. This finds calls in them whose target is gone or takes other arguments.
LOOSE = arg-type assignment method-assign misc operator return-value union-attr unused-ignore var-annotated
MEASURED = docs/results benchmarks $(addprefix --disable-error-code=,$(LOOSE))

# Outputs by name, never a folder that may hold somebody's images.
DATASETS = $(shell sed -n 's/^    "\(.*\)": "adshift.data.datasets.*/\1/p' src/adshift/data/registry.py)
DATA = checked.json checked_network.json settings sources ablation clean contamination evaluation features fitted levers \
	scores shift split thresholds
clean:  ## remove the environment and all outputs (the DVC cache stays)
	rm -rf $(VENV) mutants site dist build
	rm -rf $(addprefix data/,$(DATA)) $(addprefix models/,$(DATASETS)) $(addprefix timings/,$(DATASETS))
	rm -rf metrics/summary.json metrics/headline.json metrics/tables metrics/timings plots/curves plots/images report/index.html
	@rmdir data models metrics plots report timings 2>/dev/null || true
