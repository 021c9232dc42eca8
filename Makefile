# Every target makes .venv itself when it is missing or older than the lock file.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test quick check figures format lock weights clean

demo: $(READY)  ## build a catalog of real media, run one search per modality, show the hits
	$(BIN)/python -m indexes.demo

test: check  ## everything CI runs
	$(BIN)/python -m pytest -m "not gpu and not browser"

quick: $(READY)  ## the tests that take seconds
	$(BIN)/python -m pytest -q -m "not slow and not gpu and not browser"

check: $(READY)  ## style, types, import directions
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_imports.py

figures: $(READY)  ## do the pages follow from the results, and were those measured with the weights that ship?
	$(BIN)/python -m eval.figures --check

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

weights: $(READY)  ## rebuild everything that ships, in hours; see training/README.md
	$(BIN)/python -m training.weights

lock:  ## pin what .venv holds now
	{ head -2 requirements.lock; $(BIN)/pip freeze --all --exclude-editable | grep -v -i -E '^(pip|wheel|embedspace)=='; } > requirements.new
	mv requirements.new requirements.lock

clean:
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache *.egg-info

$(READY): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "cannot make .venv with $(PYTHON): Python 3.11 or later with its venv module is needed (Debian: apt-get install python3-venv)" >&2; exit 1; }
	$(BIN)/pip install --quiet --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --quiet --no-deps --no-build-isolation --editable .
	@touch $@
