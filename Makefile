# Two commands are enough: `make demo` and `make test`. Both make their own virtual environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The tests start hundreds of processes: what they import is compiled once.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check style types imports bench gate-card conformance fix clean

demo: $(READY)
	$(BIN)/harness run scenarios/burst.py --mock h100-8b --rate 6 --duration 30s --burst-factor 5 --burst-every 15s --burst-for 5s --seed 1

# Pure tests fill the processors; those with sockets and processes mostly wait, some of them for short deadlines; what measures
# runs with nothing beside it.
test: $(READY)
	$(MAKE) --jobs 2 check
	$(BIN)/python -m pytest -m "not realtime" -n 2 --dist worksteal
	$(BIN)/python -m pytest -m "realtime and not few and not alone" -n 4 --dist worksteal
	$(BIN)/python -m pytest -m few -n 3 --dist worksteal
	$(BIN)/python -m pytest -m alone

check: types style imports

style: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks.mock
	$(BIN)/python -m benchmarks.load
	$(BIN)/python -m benchmarks.records
	$(BIN)/python -m benchmarks.self_judgement
	$(BIN)/python -m benchmarks.virtual
	$(BIN)/python -m benchmarks.judgement

# How often the gate is wrong when nothing changed, and sees what did: writes docs/gate.md, in a quarter of an hour.
gate-card: $(READY)
	$(BIN)/python -m benchmarks.gate

# The official SDKs' own tests against the mock; needs the package index, writes docs/conformance.md.
conformance: $(READY)
	$(BIN)/python -m conformance

fix: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[server,load,report,gpu,dev]'
	touch $(READY)
