# make demo · test · soak · bench · capacity · docs · lint · format · clean
#
# Everything is installed into virtual environments inside this folder. PYTHON=python3.12 chooses another Python
# for .venv, PORT=8000 another port for the demo.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
PORT ?= 5000
# One more than cores on a small machine: many tests wait for a browser or a server.
JOBS ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)
PYTEST_JOBS = -n $(JOBS) --dist worksteal

VENV := .venv
BIN := $(VENV)/bin
# What may differ from one Python to the next. Not again: what a database does, the second store under the HTTP and
# other integration tests, what takes text in proportion to its length, the demo, files for browsers, and the tests of
# the tests' own tools.
FAST := -m 'not slow and not soak' \
	-k 'not postgresql and not pgbouncer and not firestore and not (integration and sqlite) and not growth and not browser_files and not example and not planted and not network'
QUICK := tests/unit tests/conformance tests/integration $(FAST)
# On a Python between the oldest and the newest: what runs on both of these seldom fails there.
BETWEEN := tests/unit tests/conformance $(FAST)
# What the extras' stores and sinks do on every other Python, with real servers.
EXTRAS := tests/integration/test_firestore_sink.py $(addprefix tests/conformance/test_,claims.py creating.py outbox.py) \
	-k 'postgresql or firestore'
# What runs on a Python without interpreter lock: what needs no packages that have no wheels for it.
FREE := tests/unit tests/conformance --ignore tests/unit/example_app --ignore tests/unit/test_growth.py \
	-m 'not slow and not soak' -k 'not postgresql and not pgbouncer and not firestore'
# The lower bounds of the extra `firebase`, as pyproject.toml has them, and what is tested on them.
OLDEST := .venvs/firebase-oldest
OLDEST_BOUNDS = $$(sed -n 's/^firebase = //p' pyproject.toml | grep -o '[a-z-]*>=[0-9.]*' | sed 's/>=/==/')
OLDEST_TESTS := $(addprefix tests/integration/,test_firebase_versions.py test_firebase_auth.py fcm test_live_activity.py) \
	tests/unit/sinks/fcm/test_messages.py

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test soak bench capacity docs lint format clean suite quick freethreaded oldest backends

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/.demo ## start the example app on http://127.0.0.1:$PORT (5000)
	@echo "The example app: http://127.0.0.1:$(PORT)  (Ctrl-C stops it)"
	exec $(BIN)/gunicorn --worker-class gthread --workers 2 --threads 8 \
		--bind 127.0.0.1:$(PORT) "example_app:create_app()"

test: ## lint, docs, the whole suite; parts of it on every other Python 3.10 to 3.13 here, and on the oldest firebase-admin
	@$(MAKE) lint
	@$(MAKE) docs
	@$(MAKE) suite
	@$(MAKE) quick
	@$(MAKE) freethreaded
	@$(MAKE) oldest
	@echo "make test: all passed"

suite: $(VENV)/.dev backends ## the whole suite, on .venv's Python
	@echo "== the whole suite, $$($(BIN)/python -V)"
	$(BIN)/python tests/suite.py $(PYTEST_JOBS)

backends:
	@tests/backends/install.sh postgresql pgbouncer chromium firefox webkit firestore redis

# For a shell loop over versions: makes $venv with $python, and has it install the argument. pip knows dependency groups
# (PEP 735) from 25.1 on.
SET_UP = if [ ! -e $$venv/.test ] || [ pyproject.toml -nt $$venv/.test ]; then \
		echo "== setting up $$venv ($$python)"; \
		[ -x $$venv/bin/python ] || $(MAKE) PYTHON=$$python $$venv/bin/python </dev/null; \
		$$venv/bin/python -m pip install --quiet --upgrade 'pip>=25.1'; \
		$$venv/bin/python -m pip install --quiet $(1); \
		touch $$venv/.test; \
	fi

quick: $(VENV)/.dev backends ## the quick part of the suite, on every other Python 3.10 to 3.13 found here
	@mine=$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	tests/pythons.sh | while read -r version python; do \
		if [ "$$version" = "$$mine" ]; then continue; fi; \
		venv=.venvs/$$version; $(call SET_UP,--editable '.[demo]' --group test-core --group test-extras); \
		echo "== the quick part, Python $$version"; \
		if [ "$$version" = 3.12 ]; then $$venv/bin/python tests/suite.py $(PYTEST_JOBS) $(BETWEEN) </dev/null; continue; fi; \
		$$venv/bin/python tests/suite.py $(PYTEST_JOBS) $(QUICK) </dev/null; \
		echo "== the extras, Python $$version"; \
		$$venv/bin/python tests/suite.py $(PYTEST_JOBS) $(EXTRAS) </dev/null; \
	done

freethreaded: ## unit and conformance tests, and throughput, on the free-threaded Pythons found here (3.13t, 3.14t)
	@tests/pythons.sh free-threaded | while read -r version python; do \
		venv=.venvs/$$version; $(call SET_UP,--editable . --group test-free-threaded); \
		echo "== unit and conformance tests without the interpreter lock, Python $$version"; \
		$$venv/bin/python tests/suite.py $(PYTEST_JOBS) $(FREE) </dev/null; \
		for gil in 1 0; do \
			echo "== throughput, Python $$version, PYTHON_GIL=$$gil"; \
			PYTHON_GIL=$$gil $$venv/bin/python -m tests.benchmarks --only throughput --peers none --rounds 3 </dev/null; \
		done; \
	done

oldest: $(OLDEST)/.test ## what needs firebase-admin, on the oldest version that is supported
	@echo "== firebase-admin $$($(OLDEST)/bin/python -c 'import firebase_admin; print(firebase_admin.__version__)')"
	$(OLDEST)/bin/python tests/suite.py $(PYTEST_JOBS) $(OLDEST_TESTS)

soak: $(VENV)/.dev backends ## the long form of the tests that have one (marked `soak`)
	$(BIN)/python -m pytest -m soak --timeout 0

bench: .bench-venv/.bench ## measure beside Celery, RQ, Dramatiq, Huey and DBOS (BENCH='--only polls --peers none')
	@tests/backends/install.sh redis wrk firestore postgresql || echo "going on without them" >&2
	.bench-venv/bin/python -m tests.benchmarks --json tests/benchmarks/results/latest.json $(BENCH)

capacity: .bench-venv/.bench ## measure for docs/explanation/capacity.md, and put the figures there
	@tests/backends/install.sh redis wrk firestore postgresql
	.bench-venv/bin/python -m tests.benchmarks --only postgresql,scale --json tests/benchmarks/results/capacity.json $(BENCH)
	.bench-venv/bin/python -m tests.benchmarks.scale.page tests/benchmarks/results/capacity.json

docs: $(VENV)/.dev ## build the documentation into docs/_build/html; a warning is an error
	@echo "== docs"
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --builder html docs docs/_build/html

lint: $(VENV)/.dev ## ruff, mypy, import-linter
	@echo "== lint"
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev ## let ruff lay the code out and mend what it can
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

clean: ## remove everything that was made here
	rm -rf .venv .venvs .bench-venv docs/_build build dist instance *.egg-info
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- environments ---------------------------------------------------------------------------------------------------

%/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(PYTHON) is older than Python 3.10; name another one: make PYTHON=python3.12 …" >&2; exit 1; }
	@PYTHON=$(PYTHON) tests/backends/install.sh venv
	$(PYTHON) -m venv $*
	$*/bin/python -m pip install --quiet --upgrade 'pip>=25.1'

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]' --group dev
	@touch $@

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(OLDEST)/.test: pyproject.toml | $(OLDEST)/bin/python
	$(OLDEST)/bin/python -m pip install --quiet --editable '.[firebase]' $(OLDEST_BOUNDS) --group test-tools
	@touch $@

# A peer that does not install is named by the run as not installed, and keeps nobody else out.
.bench-venv/.bench: pyproject.toml tests/benchmarks/peers/requirements.txt | .bench-venv/bin/python
	.bench-venv/bin/python -m pip install --quiet --editable '.[firebase,postgresql]' gunicorn gevent
	@sed 's/ *#.*//; /^$$/d' tests/benchmarks/peers/requirements.txt | while read -r peer; do \
		.bench-venv/bin/python -m pip install --quiet "$$peer" </dev/null || echo "not installed: $$peer" >&2; \
	done
	@touch $@
