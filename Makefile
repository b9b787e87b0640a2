# `make` lists what there is. Everything runs in .venv, made by the first target that needs it.
# On Linux a plain torch brings CUDA along (gigabytes); name an index of CPU builds in PIP_EXTRA_INDEX_URL to do without.

PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed

.PHONY: help demo test test-compose bench soak scale clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(INSTALLED) ## train a small GPT with tracing on and show where its steps' time went
	@$(VENV)/bin/otel-torch-modules demo

test: $(INSTALLED) ## check style and types, run the tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest

test-compose: $(INSTALLED) ## run the compose demo for real; needs root and what tests/deploy/compose_up.py names
	$(VENV)/bin/python tests/deploy/compose_up.py

bench: $(INSTALLED) ## measure what tracing costs, beside other tools: half an hour; `QUICK=1` for a look
	$(VENV)/bin/python -m benchmarks.table $(if $(QUICK),--quick)

soak: $(INSTALLED) ## train the demo for half an hour and see that nothing grows; `MINUTES=2` for a look
	$(VENV)/bin/python -m benchmarks.soak --minutes $(or $(MINUTES),30)

scale: $(INSTALLED) ## send 200 steps of 10 000 module calls to Jaeger and count the spans: needs 6 GB of memory
	$(VENV)/bin/python -m benchmarks.scale

clean: ## remove the virtual environment and the demo's traces
	rm -rf $(VENV) traces

# A stamp, so that nothing is installed twice; a change of the dependencies or of their pins renews it.
# numpy is not needed, but torch warns where it is missing.
$(INSTALLED): Makefile pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[cli,test]' numpy
	touch $@
