# Two commands do everything: `make run` and `make test`. They need Python 3.11 or later, make and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# A Python asked for by name, of another version than that of $(VENV), replaces it.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11) and "Sotto needs Python 3.11 or later")
VERSION := import sys; print("%d.%d" % sys.version_info[:2])
ifneq ($(origin PYTHON),file)
ifneq ($(shell $(PYTHON) -c '$(VERSION)' 2>&1),$(shell test ! -x $(BIN)/python || $(BIN)/python -c '$(VERSION)'))
OTHER := other-python
endif
endif

.PHONY: other-python run test test-pythons test-isa test-all test-real soak lint format docs lock audit release release-check clean

run: $(VENV)/.run
	$(if $(MODEL)$(SOTTO_MODEL),,@$(BIN)/sotto models pull base || echo "Whisper base can't be fetched, see above: serving the best model that is here.")
	@$(BIN)/sotto serve $(if $(PORT),--port $(PORT)) $(if $(MODEL),--model "$(MODEL)")

test: $(VENV)/.dev lint
	$(BIN)/python -m pytest -q -m "not slow and not soak and not real" -n 2 --dist loadfile

# Once for each instruction set of this CPU that CTranslate2 is built for.
test-isa: $(VENV)/.dev
	$(BIN)/python -m tests.support.isa -n 2 --dist loadfile

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m slow

test-pythons: $(VENV)/.dev
	$(BIN)/python scripts/check_pythons.py

# Real people's recordings, which are no part of the repository: SOTTO_REAL_AUDIO is their folder.
test-real: $(VENV)/.dev
	$(if $(SOTTO_REAL_MODEL),,$(BIN)/sotto models pull base)
	SOTTO_REAL_MODEL="$${SOTTO_REAL_MODEL:-$$($(BIN)/sotto models path base)}" $(BIN)/python -m pytest -q -m real tests/real

soak: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m soak

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The tables of the documents that come from the code.
docs: $(VENV)/.dev
	$(BIN)/python -m scripts.write_docs

# The lock holds names, versions and hashes, and no address of an index.
lock: $(VENV)/.dev
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra otel --universal --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --constraints requirements.lock --output-file requirements-dev.lock

	echo 'nvidia-cublas-cu12>=12.8' | $(BIN)/uv pip compile - --no-deps --universal --generate-hashes --no-header \
		--no-annotate --no-emit-index-url --no-emit-find-links --output-file requirements-cuda.lock
	echo 'hatchling>=1.27' | $(BIN)/uv pip compile - --universal --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --output-file requirements-build.lock
	$(BIN)/uv pip compile --group release --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
		--no-emit-find-links --constraints requirements-build.lock --output-file requirements-release.lock

audit: $(VENV)/.run
	$(BIN)/python -m scripts.audit

# docs/releasing.md. The check is a rehearsal: it takes a changelog without a date, and a checkout with changes.
release: $(VENV)/.run
	$(BIN)/python scripts/release.py

release-check: $(VENV)/.run
	$(BIN)/python scripts/release.py --rehearsal

other-python:
	@$(PYTHON) -c '$(NEW_ENOUGH)'
	rm -rf $(VENV)

$(VENV)/.run: requirements.lock pyproject.toml $(OTHER)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c '$(NEW_ENOUGH)'
	@echo "Installing into $(VENV), about half a minute ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache dist
