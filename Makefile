# make course: install everything and run the course's comparison on synthetic faces
# make test:   lint, types, the notebooks of the library and the tests of the code, in less than ten minutes
# make test-all: also the tests that take over ten seconds (test-slow), the lessons (test-course), and site and slides in a browser (test-site); CI runs this
# make test-long: the tests that take minutes each, with a record
# make docs:   the site in _docs/; make slides: the decks of talk and units, and a PDF of each, in _docs/slides/
# make release-check: build the release and test base and train with the oldest and the newest Python installed here; make colab-check: run every lesson as Colab does
# make bench-peers: compare the shipped model with others on your faces (FACES=file.npz)
# make default-model: train, measure and export the shipped model (PHOTOGRAPHS="a.npz b.npz" PORTRAITS= WEB= FRAMES=)
# make export: write facekp/ from nbs/ after a change; make readme: write README.md from nbs/index.ipynb
PYTHON ?= python3
BIN := .venv/bin
export FACEKP_PROFILE ?= quick
# two parallel notebooks or tests need two cores and 6 GB
WORKERS ?= 2
# each process computes with one thread; with more, the threads of one process wait for a core that the other one uses
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
# on Linux, keep freed memory, as facekp.training.memory does, also where a lesson trains with plain Keras
KEEP_MEMORY := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2000000000
# notebooks and tests write 0.4 GB of temporary files, which are removed; some tests read them as another user
IN_SCRATCH := scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && chmod 755 "$$scratch" && export TMPDIR="$$scratch" $(ONE_THREAD) $(KEEP_MEMORY)
NOTEBOOKS := nbdev-test --n-workers $(WORKERS) --timing --do-print --skip-folder-re
# labelled real faces, which are not part of the repository
FACES ?= $(error give FACES=, a file or folder of labelled faces)

.PHONY: course test test-slow test-course test-site test-all lint test-long bench-peers default-model setup dev docs slides browser release-check colab-check export readme clean

course: setup
	$(BIN)/facekp course --profile $(FACEKP_PROFILE) --data synthetic

setup: .venv/installed
dev: .venv/installed-dev

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train]'
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

# Chromium, for the tests of the site and the PDFs of the slides
browser: .venv/installed-dev
	$(BIN)/python nbs/_site/browser.py

release-check: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[release]'
	$(BIN)/python tools/release_check.py $(RELEASE_OPTIONS)

colab-check: .venv/installed
	$(BIN)/python tools/colab_check.py

lint: dev
	$(BIN)/ruff check .
	$(BIN)/mypy

test: dev lint
	$(IN_SCRATCH) && (cd nbs && ../$(BIN)/$(NOTEBOOKS) '^[_.]|^(solutions|course|teaching)$$') && \
		$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-course: dev
	$(IN_SCRATCH) && cd nbs && for folder in course teaching; do ../$(BIN)/$(NOTEBOOKS) '^[_.]|^solutions$$' $$folder || exit 1; done

test-slow: dev
	$(IN_SCRATCH) && $(BIN)/python -m pytest -m slow -n $(WORKERS) --dist load

test-site: dev browser
	$(IN_SCRATCH) && $(BIN)/python -m pytest -m site

test-all: test test-slow test-course test-site

# the solutions of the exercises are among these
test-long: .venv/installed-clusters
	$(BIN)/python tools/long_tests.py

RECIPES = nouri2014 naimishnet
bench-peers: dev $(RECIPES:%=runs/peers/%/model.keras)
	$(BIN)/python studies/peers.py --faces $(FACES) $(if $(MODEL),--model $(MODEL)) --recipes $(foreach recipe,$(RECIPES),$(recipe)=runs/peers/$(recipe))

runs/peers/%/model.keras: | .venv/installed-dev
	$(BIN)/facekp train --model $* --labels truth --augment 12 --profile full --data $(FACES) --out runs/peers/$* --resume $(RECIPE_OPTIONS)

# mediapipe 0.10.14 needs numpy 1 and Python 3.12 or older; only the training of the shipped model uses it, in a separate environment
MEDIAPIPE_PYTHON ?= python3.11
runs/mediapipe/installed:
	$(MEDIAPIPE_PYTHON) -m venv runs/mediapipe
	runs/mediapipe/bin/pip install --quiet mediapipe==0.10.14 "numpy<2"
	touch $@

# one or two files of photographs with all keypoints, and files of other faces; each of these may be left out
PHOTOGRAPHS ?= $(error give PHOTOGRAPHS=, one or two files of labelled faces)
OTHERS = $(if $(PORTRAITS),--portraits $(PORTRAITS)) $(if $(WEB),--web $(WEB)) $(if $(FRAMES),--frames $(FRAMES))
default-model: dev runs/mediapipe/installed
	$(BIN)/python recipes/default/train.py --photographs $(PHOTOGRAPHS) $(OTHERS) --out runs/default --save runs/default/default.json $(DEFAULT_OPTIONS)
	$(BIN)/python recipes/default/ship.py --eight-bits --model runs/default/final-seed0.keras --calibrate $(PHOTOGRAPHS) --version "trained here" --license "research only, as required by the terms of the training photographs" \
		--data "$(notdir $(PHOTOGRAPHS) $(PORTRAITS) $(WEB) $(FRAMES)); labels blended with MediaPipe Attention Mesh predictions" --record runs/default/calibration.json --out runs/default/default.onnx

# settings.ini at the top is the only source of the profiles; the package ships a copy
export: dev
	cp settings.ini facekp/settings.ini
	$(BIN)/nbdev-export
	$(BIN)/nbdev-clean
	$(BIN)/python nbs/_site/solutions.py

readme: dev
	$(BIN)/python -m jupyter nbconvert --to markdown --TagRemovePreprocessor.remove_input_tags=hide_input \
		--output-dir . --output README nbs/index.ipynb
	sed -i.bak -e 's#(\.\./#(#g' README.md && cat -s README.md > README.md.bak && mv README.md.bak README.md

clean:
	rm -rf .venv build dist _proc _docs
