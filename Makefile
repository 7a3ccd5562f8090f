# make demo     compare training with and without dropout on the embedded digits
# make test     lint, types and every test
# make test-zoo surgery and check on 80 classifiers of torchvision and timm (about 10 minutes)
# make quality  the masks' statistics at 2^28 units (about 3 minutes)
# make rubbish  10,000 bad inputs (about 5 minutes)
# make drill    trainings, studies, searches and predictions, killed at random moments (about 10 minutes)
# make docs     the documentation as a site, in build/site
# make bench    dropkit's dropout beside torch.nn's and beside a copy, on this machine
# make install  set up .venv for development

PYTHON ?= python3
BIN := .venv/bin

# make picture STUDY=studies/demo PICTURE=docs/images/page.png   a study's page as a picture (needs chromium)

CHROMIUM ?= chromium

QUALITY_UNITS ?= 268435456

.PHONY: help demo test test-zoo quality rubbish drill docs bench install format picture clean

help:
	@sed -n 's/^# make/make/p' Makefile

demo: .venv/installed
	$(BIN)/dropkit compare digits --out studies/demo

test: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-zoo: .venv/installed-test
	DROPKIT_ZOO=all $(BIN)/python -m pytest tests/models/test_zoo.py --durations=5

quality: .venv/installed-test
	DROPKIT_QUALITY_UNITS=$(QUALITY_UNITS) $(BIN)/python -m pytest tests/masks/test_quality.py --durations=5

rubbish: .venv/installed-test
	DROPKIT_RUBBISH=10000 $(BIN)/python -m pytest tests/rubbish --numprocesses 2 --durations=5

drill: .venv/installed-test
	$(BIN)/python benchmarks/drill.py

docs: .venv/installed-test
	$(BIN)/python -m sphinx --fail-on-warning --quiet -c docs . build/site
	@echo build/site/index.html

bench: .venv/installed
	$(BIN)/dropkit bench

install: .venv/installed-test

format: .venv/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

picture:
	$(CHROMIUM) --headless --no-sandbox --disable-gpu --disable-background-networking --hide-scrollbars \
		--window-size=1180,2000 --screenshot=$(PICTURE) file://$(abspath $(STUDY))/report.html

KERNELS := CMakeLists.txt $(wildcard src/dropkit/masks/kernels/cpu/*)

# torch goes first: it is the largest, and the constraints hold it to the tested version.
.venv/installed: pyproject.toml constraints.txt $(KERNELS)
	$(PYTHON) -c 'import sys; sys.exit("dropkit needs Python 3.10 or newer: make PYTHON=python3.12 ..." if sys.version_info < (3, 10) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf .venv build .mypy_cache .pytest_cache .ruff_cache .hypothesis
