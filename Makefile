# make course: set up and run the course's main job on the synthetic faces
# make test:   set up and run every check, notebook and test
# make export: write facekp/ from nbs/ after a change; make readme: write README.md from nbs/index.ipynb
PYTHON ?= python3
BIN := .venv/bin
export FACEKP_PROFILE ?= quick
# more than two notebooks at once would want more than two cores and 6 GB
WORKERS ?= 2

.PHONY: course test setup dev export readme clean

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
	cd nbs && ../$(BIN)/nbdev-test --n-workers $(WORKERS) --timing --do-print
	$(BIN)/python -m pytest

export: dev
	$(BIN)/nbdev-export
	$(BIN)/nbdev-clean

readme: dev
	$(BIN)/python -m jupyter nbconvert --to markdown --TagRemovePreprocessor.remove_input_tags=hide_input \
		--output-dir . --output README nbs/index.ipynb
	sed -i.bak 's#(\.\./#(#g' README.md && rm README.md.bak

clean:
	rm -rf .venv build dist _proc _docs
