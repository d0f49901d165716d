# make course: set up and run the course's main job on the synthetic faces
# make test:   set up and run every check, notebook and test
# make docs:   build the site into _docs/; make slides: the deck and its PDF into _docs/slides/
# make release-check: build, look into and try what would be published; make colab-check: run every lesson as Colab would
# make test-long: the checks that take minutes, their result recorded; make bench-peers: the shipped model beside others on faces of yours (FACES=file.npz)
# make default-model: train the shipped model again, and the twin that is measured (FACES=photographs.npz MORE=frames.npz)
# make export: write facekp/ from nbs/ after a change; make readme: write README.md from nbs/index.ipynb
PYTHON ?= python3
BIN := .venv/bin
export FACEKP_PROFILE ?= quick
# more than two notebooks or files of tests at once would want more than two cores and 6 GB
WORKERS ?= 2
# labelled faces for what measures or trains on real ones; none come with the repository
FACES ?= $(error give FACES=, a file or folder of labelled faces)
MORE ?= $(error give MORE=, a second file of labelled faces)

.PHONY: course test test-long bench-peers default-model setup dev docs slides browser release-check colab-check export readme clean

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

.venv/installed-clusters: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cluster,ray]'
	touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	touch $@

docs: .venv/installed-docs
	$(BIN)/python nbs/_site/build.py

slides: dev browser
	$(BIN)/python slides/deck.py

# a Chromium for the checks of the site and the slides' PDF: the system's, else one from npm's registry, else none
browser: .venv/installed
	$(BIN)/python nbs/_site/browser.py

release-check: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[release]'
	$(BIN)/python tools/release_check.py

colab-check: .venv/installed
	$(BIN)/python tools/colab_check.py

# what lessons and tests leave in the folder for temporary files, 0.4 GB, goes with it; some tests enter it as another user
test: dev browser
	scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && chmod 755 "$$scratch" && export TMPDIR="$$scratch" && \
		(cd nbs && ../$(BIN)/nbdev-test --n-workers $(WORKERS) --timing --do-print) && \
		$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

# Dask and Ray are for two of them; the result goes to results/reliability/test_long.json
test-long: .venv/installed-clusters
	$(BIN)/python tools/long_tests.py

# the shipped weights have learned from all of the course's photographs, so on those their twin is judged, which make default-model leaves in runs/default
RECIPES = nouri2014 naimishnet
TWIN ?= $(wildcard runs/default/twin.onnx)
bench-peers: dev $(RECIPES:%=runs/peers/%/model.keras)
	$(BIN)/python studies/peers.py --faces $(FACES) $(if $(TWIN),--model $(TWIN)) --recipes $(foreach recipe,$(RECIPES),$(recipe)=runs/peers/$(recipe))

runs/peers/%/model.keras: | .venv/installed-dev
	$(BIN)/facekp train --model $* --labels truth --augment 12 --profile full --data $(FACES) --out runs/peers/$* $(RECIPE_OPTIONS)

# mediapipe 0.10.14 wants numpy 1 and a Python up to 3.12, so it lives apart; it is needed for the training of the shipped model only
MEDIAPIPE_PYTHON ?= python3.11
runs/mediapipe/installed:
	$(MEDIAPIPE_PYTHON) -m venv runs/mediapipe
	runs/mediapipe/bin/pip install --quiet mediapipe==0.10.14 "numpy<2"
	touch $@

# leaves twin.onnx, which is measured, and default.onnx, which has learned from all photographs, in runs/default
TRAIN_DEFAULT = $(BIN)/python recipes/default/train.py --faces $(FACES) --more $(MORE) --out runs/default $(DEFAULT_OPTIONS)
SHIP_DEFAULT = $(BIN)/python recipes/default/ship.py --eight-bits --watch $(FACES) --record runs/default/calibration.json --license "as of the pictures that it learned from" \
	--data "$(notdir $(FACES)), $(notdir $(MORE)) and drawn faces; answers of MediaPipe's attention mesh to these mixed into the marks"
default-model: dev runs/mediapipe/installed
	$(TRAIN_DEFAULT)
	$(TRAIN_DEFAULT) --everything
	$(SHIP_DEFAULT) --model runs/default/twin-seed0.keras --calibrate $(FACES) --held-out --version "twin, without the held-out part" --out runs/default/twin.onnx
	$(SHIP_DEFAULT) --model runs/default/everything-seed0.keras --calibration runs/default/calibration.json --version "all photographs" --out runs/default/default.onnx

export: dev
	$(BIN)/nbdev-export
	$(BIN)/nbdev-clean

readme: dev
	$(BIN)/python -m jupyter nbconvert --to markdown --TagRemovePreprocessor.remove_input_tags=hide_input \
		--output-dir . --output README nbs/index.ipynb
	sed -i.bak 's#(\.\./#(#g' README.md && rm README.md.bak

clean:
	rm -rf .venv build dist _proc _docs
