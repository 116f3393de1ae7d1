# make demo   sets everything up and prints the ranked table of the demo
# make test   sets everything up and runs every test
# make test-long   what takes too long for every change: 50 kills over one sweep, 2,000 damaged inputs for every reader
# make leaderboards   runs the demo afresh and writes its submissions and tables into leaderboards/demo
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo leaderboards test test-long lint types clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/vpbench run experiment=demo leaderboard=leaderboard

leaderboards: $(VENV)/.installed
	rm -rf build/leaderboards
	$(BIN)/vpbench run experiment=demo out=build/leaderboards leaderboard=null
	$(BIN)/vpbench rank build/leaderboards/demo -o leaderboards/demo --submissions --by operation

test: $(VENV)/.installed-test lint types
	$(BIN)/python -m pytest --cov=vpbench --cov=metrics --cov=baselines --cov-report=term:skip-covered --cov-fail-under=90

test-long: $(VENV)/.installed-test
	VPBENCH_KILLS=50 VPBENCH_FUZZ=2000 $(BIN)/python -m pytest --no-cov tests/test_faults.py tests/fuzz/test_fuzz.py

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy does not follow the mapping of our folders into one package, so it looks at an installed copy.
types: $(VENV)/.installed-test
	rm -rf build/typed build/clean
	mkdir -p build/clean
	cp -r pyproject.toml README.md LICENSE vpbench metrics baselines conf build/clean/
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --target build/typed ./build/clean
	$(BIN)/mypy -p vpbench

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf build dist *.egg-info runs leaderboard
