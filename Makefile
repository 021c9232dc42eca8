# Every target makes .venv itself when it is missing or older than a lock file: demo installs what running needs
# (requirements.lock), all others what tests need on top (requirements-dev.lock). WORKERS: processes that share the tests.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
DEV := .venv/.dev
WORKERS ?= 2
INSTALL := $(BIN)/pip install --quiet --quiet --no-compile --no-deps

# pip unpacks with one core: these take as long as the others, which are smaller, in more files, and embedspace itself.
LARGE := ^(nvidia|cuda|av|faiss|joe|onnxruntime|scipy|sympy)

# Modules that the reference of the Python API shows, after "embedspace".
API := .errors .modality .segment .calibration .vocabulary .media .encoders .encoders.towers .space .query .catalog .generate .train \
	.evaluate .integrations.langchain .integrations.lancedb .integrations.chroma .integrations.mcp .integrations.mteb .integrations.hub

.PHONY: demo test quick check figures format lock docs weights clean

demo: $(READY)  ## build a catalog of real media, run one search per modality, show the hits
	$(BIN)/python -m indexes.demo

test: check  ## everything CI runs; tests in a browser are skipped where there is no chromium
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not gpu and not browser"
	$(BIN)/python -m pytest -m browser tests/serve/browser  # apart: playwright keeps an event loop running

quick: $(DEV)  ## the tests that take seconds
	$(BIN)/python -m pytest -q -m "not slow and not gpu and not browser"

check: $(DEV)  ## style, types, figures that follow from the results, import directions
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m eval.figures --check
	$(BIN)/python -m pytest -q tests/test_imports.py

figures: $(DEV)  ## do the pages follow from the results, and were those measured with the weights that ship?
	$(BIN)/python -m eval.figures --check

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

weights: $(DEV)  ## rebuild everything that ships, in hours; see training/README.md
	$(BIN)/python -m training.weights

docs: $(DEV)  ## the reference of the Python API, as pages in build/api
	$(BIN)/python -m pdoc --docformat google --output-directory build/api $(addprefix embedspace,$(API))

lock:  ## pin what .venv holds now
	$(BIN)/python -m tests.support.locks

clean:
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache *.egg-info

$(READY): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "cannot make .venv with $(PYTHON): Python 3.11 or later with its venv module is needed (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@grep -E '$(LARGE)' requirements.lock > .venv/large.lock; grep -Ev '$(LARGE)' requirements.lock > .venv/other.lock
	$(INSTALL) --requirement .venv/large.lock & large=$$!; \
		$(INSTALL) --requirement .venv/other.lock && $(INSTALL) --no-build-isolation --editable .; other=$$?; \
		wait $$large && exit $$other
	@touch $@

$(DEV): $(READY) requirements-dev.lock
	$(INSTALL) --requirement requirements-dev.lock
	@touch $@
