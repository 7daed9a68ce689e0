# Every target sets up .venv first. `make demo` and `make test` are all a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check bench leaderboard setup clean

demo: setup
	$(BIN)/bench run --method stpl

test: setup
	$(BIN)/python -m pytest -q

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bench leaderboard --check

bench: setup
	$(BIN)/python -m pytest tests/benchmarks -q --benchmark-columns=median,rounds

leaderboard: setup
	$(BIN)/bench leaderboard

setup: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs cache preview
