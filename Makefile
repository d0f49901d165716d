# make course: set up and run the course's main job on the synthetic faces
# make test:   set up and run every check and test
PYTHON ?= python3
BIN := .venv/bin
export FACEKP_PROFILE ?= quick
# more than two notebooks at once would want more than two cores and 6 GB
WORKERS ?= 2

.PHONY: course test setup dev export readme docs slides clean

course: setup
	$(BIN)/facekp course --profile $(FACEKP_PROFILE) --data synthetic

setup: .venv/installed
dev: .venv/installed-dev

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

test: dev
	$(BIN)/python tests/check_repository.py
	cd nbs && PATH="$(CURDIR)/$(BIN):$$PATH" nbdev-test --n_workers $(WORKERS) --timing --do_print
	$(BIN)/python -m pytest

export: dev
	$(BIN)/nbdev-export
	$(BIN)/nbdev-clean

readme: dev
	$(BIN)/python tests/make_readme.py

clean:
	rm -rf .venv build dist _proc _docs
