# Two commands matter: `make demo` shows the main job, `make test` runs the tests.
# Each makes the virtual environment it needs, in .venv; `make bench` has one of its own, and so has
# ministack, which stands where AWS would be: it pins botocore.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH := benchmarks/.venv
MINISTACK := tests/ministack/.venv
RUNS ?= 20
PACKAGE_PYTHON ?= 3.13

.PHONY: help demo demo-engine test test-engine torture load simulation bench package lint venv schemas requirements clean

help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST)

demo: $(VENV)/.ready ## send a result through Terraform to a local endpoint
	@$(BIN)/python terraform/examples/demo.py

demo-engine: $(VENV)/.ready-dev $(MINISTACK)/.ready ## install the engine at stand-ins on this machine, and order three times
	@PYTHONPATH=.:tests $(BIN)/python tests/served/demo_engine.py

test: $(VENV)/.ready-dev $(MINISTACK)/.ready ## run the tests
	@$(BIN)/python -m compileall -q workflow_result # the tests start it a thousand times
	$(BIN)/python -m pytest

test-engine: $(VENV)/.ready-dev $(MINISTACK)/.ready ## run the tests of the engine and with the AWS provider, which take some minutes
	@# What a file of tests needs is made once; six of them wait for an installation at the same time.
	$(BIN)/python -m pytest -n 6 --dist loadscope --no-loadscope-reorder tests/served

torture: $(VENV)/.ready-dev $(MINISTACK)/.ready ## kill it for minutes, count what is lost or doubled (JOURNAL=dynamodb)
	$(BIN)/python tests/torture$(if $(filter dynamodb,$(JOURNAL)),_shared).py

load: $(VENV)/.ready-dev $(MINISTACK)/.ready ## two hundred orders for one worker, with figures
	@$(BIN)/python tests/load.py

simulation: $(VENV)/.ready-dev ## a shared journal, a thousand machines and all that goes wrong, on virtual time
	@PYTHONPATH=. $(BIN)/python tests/simulation.py

bench: $(BENCH)/.ready $(MINISTACK)/.ready ## compare it with the AWS CLI and others, in a few minutes (RUNS=20)
	@$(BENCH)/bin/python -m benchmarks $(RUNS)

package: | $(BIN)/python ## make dist/workflow-result.zip, which terraform/engine installs (PACKAGE_PYTHON=3.13)
	@$(BIN)/python terraform/package.py --python $(PACKAGE_PYTHON) dist/workflow-result.zip

lint: $(VENV)/.ready-dev ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	terraform fmt -check -recursive terraform
	$(BIN)/shellcheck terraform/examples/ci-job.sh terraform/examples/ci-job/* terraform/engine/*.sh

venv: $(VENV)/.ready ## make the virtual environment that main.py runs in

schemas: $(VENV)/.ready ## build schemas/ from the installed botocore
	$(BIN)/python -m workflow_result.schemas

requirements: ## pin the dependencies again, to their newest versions (needs uv)
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --custom-compile-command 'make requirements' \
	  -o requirements.txt pyproject.toml
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --custom-compile-command 'make requirements' \
	  -c requirements.txt -o requirements-package.txt --extra functions pyproject.toml
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --custom-compile-command 'make requirements' \
	  -c requirements-package.txt -o requirements-dev.txt --extra functions --group dev pyproject.toml
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --custom-compile-command 'make requirements' \
	  -c requirements-dev.txt -o benchmarks/requirements.txt --group bench pyproject.toml
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --custom-compile-command 'make requirements' \
	  -o tests/ministack/requirements.txt --group ministack

clean: ## remove what was made
	rm -rf $(VENV) $(BENCH) $(MINISTACK) benchmarks/results dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

%/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python 3.11 or later is needed: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	$(PYTHON) -m venv $*

$(VENV)/.ready: requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	$(BIN)/python -m compileall -q workflow_result
	@touch $@

$(VENV)/.ready-dev: requirements-dev.txt $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(BENCH)/.ready: benchmarks/requirements.txt | $(BENCH)/bin/python
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	$(BENCH)/bin/python -m compileall -q workflow_result
	@touch $@

$(MINISTACK)/.ready: tests/ministack/requirements.txt | $(MINISTACK)/bin/python
	$(MINISTACK)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@
