# `make demo` trains digits_mlp and builds it; `make test` runs the whole test suite. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format lock clean

demo: .venv/ready
	$(BIN)/flow train digits_mlp --output build/digits_mlp
	$(BIN)/flow build build/digits_mlp

test: .venv/ready
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# every version with its hash, for Python 3.10 to 3.13; names no package index
lock:
	uv pip compile --universal --generate-hashes --python-version 3.10 --extra train --extra rtl --extra pnr --extra images --extra tables --extra completion --extra explore --extra dev --no-emit-index-url \
		--no-emit-find-links --custom-compile-command "make lock" --quiet pyproject.toml --output-file requirements.lock

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "po2flow needs Python 3.10 to 3.13; try: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf .venv build
