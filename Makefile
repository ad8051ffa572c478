# Every target does its own set-up: Python 3.11 or newer and make are all it needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-browser lint types results clean

setup: .venv/.ready

# Debian's python3 comes without ensurepip; bootstrap.py then fetches pip itself.
.venv/.ready: pyproject.toml
	$(PYTHON) bootstrap.py .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/kineme demo --out demo

test: setup
	$(BIN)/pytest

# The service's pages in a real browser, Debian's Chromium.
test-browser: setup
	$(BIN)/pip install --quiet --editable '.[dev,browser]'
	command -v chromium >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null || { echo "chromium is missing: sudo apt-get install chromium"; exit 1; }; \
	  apt-get update --quiet=2 && apt-get install --yes --quiet=2 --no-install-recommends chromium; }
	$(BIN)/pytest -n 0 tests/browser

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy cannot follow the package-dir mapping, so it reads the packages through links.
.types:
	mkdir -p .types/kineme
	for floor in shards models retrieval pipeline; do ln -sfn ../../$$floor .types/kineme/$$floor; done

types: setup .types
	MYPYPATH=.types $(BIN)/mypy -p kineme.shards -p kineme.models -p kineme.retrieval -p kineme.pipeline

results: setup
	$(BIN)/python -m kineme.pipeline.results benchmarks docs/results.md

clean:
	rm -rf .venv .types build dist demo *.egg-info
