# memguard: everything a newcomer needs is `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test stress servers soak lint types clean

help:  ## show these targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

# Where compiled modules are not kept, every process that a test starts compiles memguard anew.
unexport PYTHONDONTWRITEBYTECODE

# The stamp is newer than pyproject.toml only after a whole, successful install.
$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "memguard needs Python 3.11 or newer")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[demo]" --group dev
	@touch $@

demo: $(READY)  ## a real web application leaks; memguard names the lines and the holders
	$(BIN)/python -m examples.leaky_shop

# In parallel (pytest-xdist; tests/conftest.py says with how many workers) and in random order
# (pytest-randomly). What walks the live heap runs in processes of its own, for the heap of all
# other tests would take most of its time.
test: $(READY)  ## the test suite, in a few minutes
	$(BIN)/python -m pytest -n auto -m "not stress" tests/heap
	$(BIN)/python -m pytest -n auto -m "not stress" --ignore=tests/heap

stress: $(READY)  ## the long tests: storms, crowds, real browsers and workers
	$(BIN)/python -m pytest -n auto -m stress tests/heap
	$(BIN)/python -m pytest -n auto -m stress --ignore=tests/heap

# Two at a time: it is timed how long they take to stop.
servers: $(READY)  ## real servers with workers: gunicorn, uvicorn, hypercorn, granian, uWSGI, Celery
	$(BIN)/python -m pip install --quiet --group servers
	MEMGUARD_TEST_SERVERS=required $(BIN)/python -m pytest -n 2 -m stress tests/integration/test_servers.py tests/integration/test_server_faults.py \
		tests/integration/test_task_servers.py

soak: $(READY)  ## a guarded program for a quarter of an hour: does memguard itself stay flat?
	$(BIN)/python -m benchmarks.soak

lint: $(READY)  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## mypy, strict; pyright on what users write
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

clean:  ## remove what make built
	rm -rf $(VENV) .nox .mypy_cache .pytest_cache .ruff_cache .hypothesis demo-report build src/*.egg-info
