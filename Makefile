# Each verb is one line; `make` alone lists them. Needs Python 3.11 or newer and nothing installed
# beforehand: .venv is made when a verb needs it, and made anew when pyproject.toml has changed.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PYTEST = $(BIN)/python -m pytest
# Two processes more than there are cores: tests wait for servers and programs more than they compute.
MANY = -n $(shell $(BIN)/python -c 'import os; print(min(8, 2 + (os.cpu_count() or 1)))') --dist loadfile
# Those that judge a pace in real time have the machine to themselves.
PACED = -m paced $$(grep -rl --include='*.py' 'mark\.paced' tests)
PIP := PIP_ROOT_USER_ACTION=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-fast test-long lint types format bench lambda terraform screenshots clean

help:  ## list these verbs
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

quickstart: .venv/usable  ## the whole story on this machine, in under a minute
	@$(BIN)/cmzon-secrets quickstart

test: .venv/complete  ## every test, against real servers where they are installed
	$(PYTEST) $(MANY) -m "not paced"
	$(PYTEST) $(PACED)

test-fast: .venv/complete  ## the tests that take no more than a second or two each
	$(PYTEST) $(MANY) -m "not slow and not paced"

test-long: .venv/complete  ## the proofs of rotation at length: 500 kills, thousands of stories (half an hour)
	CMZON_KILLS=500 CMZON_EXAMPLES=2000 $(PYTEST) --timeout 3600 tests/faults/test_rotation_kills.py tests/unit/rotation/test_concurrent_rotators.py

lint: .venv/complete  ## ruff, terraform fmt and checkov: rules and format
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/python tools/infrastructure_lint.py

types: .venv/complete  ## mypy --strict, and a second opinion on the public types
	$(BIN)/mypy && $(BIN)/pyrefly check --preset strict --ignore missing-override-decorator --python-interpreter-path $(BIN)/python tests/typing/*.py

format: .venv/complete  ## let ruff mend what it can, and terraform where it is installed
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .
	@if command -v terraform >/dev/null; then terraform fmt -recursive terraform examples; fi

bench: .venv/complete  ## print the figures of every benchmark
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done

lambda: .venv/usable  ## dist/cmzon-secrets-lambda.zip for AWS Lambda [ADD="FILE…" WITH="PACKAGE…" ARCH=arm64]
	@$(BIN)/python -m cmzon_secrets.provisioning.lambda_zip $(ADD:%=--add %) $(WITH:%=--with %) $(if $(ARCH),--arch $(ARCH))

terraform: .venv/complete  ## the tables in the Terraform modules' README, and their copies of policies, anew
	@$(BIN)/python tools/terraform_docs.py

screenshots: .venv/complete  ## docs/images anew, from a real rotation in a real browser (two minutes)
	@$(BIN)/python tools/screenshots.py

clean:  ## remove what was made here
	rm -rf .venv .venv-checkov dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

.venv/usable: pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: python — 3.11 or newer is needed and none was found" >&2; exit 1; }
	rm -rf .venv && $(PYTHON) -m venv .venv
	$(PIP) --editable '.[emulator,keyring]' && touch $@

.venv/complete: .venv/usable
	$(PIP) --editable '.[dev]' && touch $@
