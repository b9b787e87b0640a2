# `make` lists what there is. Everything runs in .venv, made by the first target that needs it.
# On Linux a plain torch brings CUDA along (gigabytes); name an index of CPU builds in PIP_EXTRA_INDEX_URL to do without.

PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
CHECKABLE := $(VENV)/.checkable
TESTABLE := $(VENV)/.testable

# Two processes, for two cores and 8 GB: tests start programs, and each imports torch. A file stays in one of them, which
# makes once what its tests share.
AT_ONCE := -n 2 --dist loadfile -m 'not device and not alone'
COVERED := tests/unit tests/integration/steps tests/integration/causes

.PHONY: help demo check test test-properties test-compose bench soak scale frameworks test-versions clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(INSTALLED) ## train a small GPT with tracing on and show where its steps' time went
	@$(VENV)/bin/otel-torch-modules demo

check: $(CHECKABLE) ## check style and types, run the quick unit tests: under a minute once .venv and the cache of mypy are there
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest -m 'not slow' --hypothesis-profile=quick tests/unit

test: $(TESTABLE) ## check style and types, run the tests, measure which branches they take
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest $(AT_ONCE) --cov=otel_torch_modules $(COVERED)
	$(VENV)/bin/pytest $(AT_ONCE) $(COVERED:%=--ignore=%)
	$(VENV)/bin/pytest -m 'alone and not device'

test-properties: $(TESTABLE) ## run the tests over generated inputs with fifty times as many of them: hours
	$(VENV)/bin/pytest --timeout=0 --hypothesis-profile=thorough $$(grep -rl 'from hypothesis' tests --include='test_*.py')

test-compose: $(TESTABLE) ## run the compose demo for real; needs root and what tests/deploy/compose_up.py names
	$(VENV)/bin/python tests/deploy/compose_up.py

bench: $(TESTABLE) ## measure what tracing costs, beside other tools: 35 minutes; `QUICK=1` for ten, known less well
	$(VENV)/bin/python -m benchmarks.table $(if $(QUICK),--quick)

soak: $(TESTABLE) ## train the demo for half an hour and see that nothing grows; `MINUTES=2` for a look
	$(VENV)/bin/python -m benchmarks.soak --minutes $(or $(MINUTES),30)

scale: $(TESTABLE) ## send 200 steps of 10 000 module calls to Jaeger and count the spans: needs 6 GB of memory
	$(VENV)/bin/python -m benchmarks.scale

frameworks: $(TESTABLE) ## run other people's training frameworks, five times each, and write docs/frameworks.md
	$(VENV)/bin/python -m tests.frameworks.table

test-versions: $(TESTABLE) ## run what leans on torch and the SDK with old and new versions and write docs/versions.md
	$(VENV)/bin/python -m tests.versions.table

clean: ## remove the virtual environment and the demo's traces
	rm -rf $(VENV) traces

# Stamps, so that nothing is installed twice; a change of the dependencies or of their pins renews them.
# numpy is not needed, but torch warns where it is missing.
$(INSTALLED): Makefile pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e . numpy
	touch $@

$(CHECKABLE): $(INSTALLED)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

$(TESTABLE): $(CHECKABLE)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[test,frameworks]'
	touch $@
