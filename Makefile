# make run     set up everything and serve on http://127.0.0.1:8000 (PORT=..., HOST=... change it)
# make test    set up everything and run the tests
# make test-services   the same suite on PostgreSQL and Redis servers of its own (Debian: postgresql, redis-server)
# make bench   speed and memory of the whole product, into benchmarks/results/
# make check   ruff, formatter, mypy, templates
PYTHON ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet
INDEX = $(if $(UNROLL_TORCH_INDEX),--extra-index-url $(UNROLL_TORCH_INDEX))

.PHONY: run test test-services bench check format clean
.DEFAULT_GOAL := run

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Unroll needs Python 3.11 or newer: PYTHON=python3.12 make run" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "The virtual environment cannot be made. On Debian: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.run: requirements.txt requirements/web.txt requirements/worker.txt | $(VENV)/bin/python
	@echo "Installing what Unroll needs (once; torch is large) ..."
	@$(PIP) $(INDEX) -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	@$(PIP) $(INDEX) -r requirements/dev.txt
	@touch $@

run: $(VENV)/.run
	@exec $(VENV)/bin/python -m webapp.launch

test: $(VENV)/.dev
	@$(VENV)/bin/python -m pytest $(ARGS)

test-services: $(VENV)/.dev
	@$(VENV)/bin/python -m tests.services $(ARGS)

bench: $(VENV)/.run
	@$(VENV)/bin/python -m benchmarks

check: $(VENV)/.dev
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@git ls-files 'templates/*.html' | xargs $(VENV)/bin/djade --target-version 5.2 --check

format: $(VENV)/.dev
	@$(VENV)/bin/ruff check --fix --quiet . ; $(VENV)/bin/ruff format --quiet .
	@git ls-files 'templates/*.html' | xargs $(VENV)/bin/djade --target-version 5.2

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
