# make quick: the main job on scikit-learn's digits (workdir runs/quick).
# make test-fast: what trains nothing and builds no large network.  make test: lint, and a test of every part.
# make test-slow: the rest, which is whole runs, kills, several processes, and many networks, formats and exporters.
# make docs: the documentation, into build/site.
# make notebook: Jupyter with the notebooks, in an environment that has mmx_tf in any folder.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quick notebook test test-fast test-slow docs lint clean

quick: $(VENV)/run.stamp
	$(BIN)/python -m mmx_tf.train --flagfile=quick.flags

notebook: $(VENV)/notebook.stamp
	$(BIN)/jupyter lab notebooks

test: lint
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not (slow or broad)" tests

test-fast: lint
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not (slow or broad or heavy)" tests

test-slow: lint
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "slow or broad" tests

docs: $(VENV)/dev.stamp
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/site
	@echo "build/site/index.html"

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .

$(VENV)/run.stamp: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements-dev.txt requirements-fpga.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

$(VENV)/notebook.stamp: $(VENV)/run.stamp requirements-notebook.txt
	$(BIN)/python -m pip install --quiet -r requirements-notebook.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV)
