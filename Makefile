# Two commands do all set-up on a machine that has Python 3.10+, make and nothing else: make demo, make test.
# Everything is installed into .venv, which is made anew when setup.cfg or pyproject.toml changes.

PYTHON ?=
VENV ?= .venv
ARGS ?=
SEED ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1

bin := $(VENV)/bin

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint lint-ruff lint-format lint-mypy lint-sandbox format bench chaos soak fuzz venv clean FORCE

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=/path/to/python3  which Python 3.10+ to use (default: the first one on PATH that runs)"
	@echo "  SEED=1234                which storm make chaos runs (default: a new one, and it is printed)"
	@echo "  ARGS='-k name -x'        passed on to pytest, the benchmarks, chaos, soak or fuzz"

demo: $(VENV)/installed ## install, and run examples/ on every runtime found
	@$(bin)/python examples/demo.py

test: $(VENV)/installed-test ## install, and run the tests
	$(bin)/python -m pytest $(ARGS)

lint: lint-ruff lint-format lint-mypy lint-sandbox ## ruff, mypy --strict, and sandbox/ compiled on every interpreter

lint-ruff: $(VENV)/installed-lint
	$(bin)/ruff check

lint-format: $(VENV)/installed-lint
	$(bin)/ruff format --check

lint-mypy: $(VENV)/installed-lint
	$(bin)/mypy

lint-sandbox: $(VENV)/installed
	$(bin)/python .ci/compile_sandbox.py

format: $(VENV)/installed-lint ## let ruff format everything but sandbox/ and examples/
	$(bin)/ruff check --fix-only
	$(bin)/ruff format

bench: $(VENV)/installed-benchmarks ## measure the engine beside other tools: tables, JSON and a chart
	$(bin)/python -m benchmarks $(ARGS)

chaos: $(VENV)/installed-test ## a storm of good, hostile and struck invocations, each judged; SEED=N repeats one
	$(bin)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(ARGS)

soak: $(VENV)/installed-test ## a million warm invocations: nothing may grow, nothing may be left
	$(bin)/python -m tests.soak $(ARGS)

fuzz: $(VENV)/installed-fuzz ## one minute of random bytes for the decoder
	$(bin)/python -m tests.fuzz -max_total_time=60 $(ARGS)

venv: $(VENV)/installed ## only make .venv and install the project into it

clean: ## remove .venv and everything that tools left behind
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A .venv that was made with another PYTHON than the one asked for now is made anew.
ifneq ($(PYTHON),)
ifneq ($(PYTHON),$(file < $(VENV)/asked-for))
$(VENV)/installed: FORCE
endif
endif

# One at a time, also under make -j: two pips in one environment break each other.
.NOTPARALLEL:

$(VENV)/installed: setup.cfg pyproject.toml
	@.ci/make-venv $(VENV) $(PYTHON)
	@printf '%s' '$(PYTHON)' > $(VENV)/asked-for
	$(bin)/python -m pip install --quiet --quiet --editable .
	@touch $@

# A tool that has no package for this machine must not keep the others from being measured.
$(VENV)/installed-benchmarks: $(VENV)/installed
	$(bin)/python -m benchmarks.install
	@touch $@

$(VENV)/installed-%: $(VENV)/installed
	$(bin)/python -m pip install --quiet --quiet --editable '.[$*]'
	@touch $@
