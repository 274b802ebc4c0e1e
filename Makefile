# `make demo` and `make test` do all the set-up: they need Python >= 3.11, make, and a C compiler
# with Python's headers if the hot path is to be compiled.
#
#   PYTHON=python3.13   the Python to make .venv from (a .venv made from another is made anew)
#   ARGS=...            handed to pytest, `pgproxy demo` or the benchmarks

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
# Tests wait more than they compute. Each worker has servers of its own; a file stays with one.
AT_ONCE := $(shell n=$$(($$(nproc 2>/dev/null || echo 2) + 1)); echo $$((n < 4 ? n : 4)))
PYTEST := $(BIN)/python -m pytest -n $(AT_ONCE) --dist loadfile --no-loadscope-reorder --durations=25 --durations-min=4
CHECKED := pgproxy tests benchmarks setup.py
SOURCES := $(shell find pgproxy -name '*.py')

.PHONY: help demo test test-all kube-assets deploy-tools check bench fmt docs lock clean build FORCE

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: build ## PostgreSQL with two replicas and pgproxy in front, until Ctrl-C
	@$(BIN)/pgproxy demo $(ARGS)

test: build ## the test suite, compiled and interpreted; needs nothing but PyPI
	@again=(); \
	mode="$$($(BIN)/python -c 'import pgproxy._compiled as c; print(c.mode())')"; \
	if [ "$$mode" = compiled ]; then \
	    echo "== tests, compiled =="; \
	    PGPROXY_EXPECT=compiled $(PYTEST) $(ARGS); \
	    again=(-m "not extra and not once"); \
	else \
	    echo "== tests, ONLY interpreted: pgproxy is $$mode =="; \
	    if [ "$${CI:-}" = true ]; then echo "CI must test the compiled hot path too" >&2; exit 1; fi; \
	fi; \
	echo "== tests, interpreted =="; \
	PGPROXY_INTERPRETED=1 PGPROXY_EXPECT=interpreted $(PYTEST) "$${again[@]}" $(ARGS)

test-all: build ## after `make test`: the tests that need more than PyPI gives (see .ci/run)
	@$(PYTEST) -m extra $(ARGS)

kube-assets: $(VENV)/.made ## kube-apiserver and etcd for `make test-all`, built once, outside the tree
	@$(BIN)/python -m tests.support.kube_assets

deploy-tools: $(VENV)/.made ## what renders and judges deploy/ for `make test-all`, the same way
	@$(BIN)/python -m tests.support.deploy_tools

check: $(VENV)/.installed ## format, lint, types, layers
	$(BIN)/ruff format --check $(wildcard $(CHECKED))
	$(BIN)/ruff check $(wildcard $(CHECKED))
	$(BIN)/mypy pgproxy $(wildcard tests/support tests/fakes tests/differential)
	$(BIN)/lint-imports

bench: build ## pgbench through pgproxy and its peers (benchmarks/README.md)
	@$(BIN)/python -m benchmarks $(ARGS)

fmt: $(VENV)/.installed ## format and fix what can be fixed
	$(BIN)/ruff check --fix-only --quiet $(wildcard $(CHECKED))
	$(BIN)/ruff format $(wildcard $(CHECKED))

docs: $(VENV)/.linked ## write the generated parts of the documentation
	@PGPROXY_INTERPRETED=1 $(BIN)/python -m tests.support.docs

build: $(VENV)/.compiled ## .venv, and the hot path compiled in place

# The stamp stays only where something was compiled: once there is a compiler, it is used.
$(VENV)/.compiled: $(VENV)/.linked $(SOURCES) setup.py pyproject.toml
	@$(BIN)/python setup.py --quiet build_ext --inplace
	@if ls pgproxy/_native__mypyc$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))') >/dev/null 2>&1; \
	then touch $@; else rm -f $@; fi

# The `pgproxy` command and the tree itself in .venv. The line above compiles.
$(VENV)/.linked: $(VENV)/.installed pyproject.toml
	@echo "== the tree into $(VENV) =="
	@PGPROXY_COMPILE=0 $(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.installed: $(VENV)/.made requirements/dev.txt
	@echo "== dependencies into $(VENV), by version and hash =="
	@$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

# Remade when PYTHON is given and another than it was made from, when the tree was moved, or when
# its Python is gone. Otherwise untouched, so that nothing that depends on it is remade.
$(VENV)/.made: FORCE
	@from="$(PYTHON)"; \
	if [ -e $@ ] && $(BIN)/python -c '' 2>/dev/null; then \
	    read -r old_from old_tree < $@; \
	    if [ "$${from:-$$old_from}" = "$$old_from" ] && [ "$(CURDIR)" = "$$old_tree" ]; then exit 0; fi; \
	fi; \
	for python in $${from:-python3 python3.14 python3.13 python3.12 python3.11}; do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "== $(VENV) from $$python =="; \
	        rm -rf $(VENV); \
	        "$$python" -m venv $(VENV) || { \
	            rm -rf $(VENV); \
	            echo "$$python cannot make a virtual environment (Debian: apt-get install python3-venv)" >&2; \
	            exit 1; }; \
	        echo "$$python $(CURDIR)" > $@; \
	        exit 0; \
	    fi; \
	done; \
	echo "pgproxy needs Python 3.11 or newer; not found as: $${from:-python3}. Set PYTHON=..." >&2; \
	exit 1

# uv resolves for every Python and platform at once. UPGRADE=1 takes the newest versions.
LOCK = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
    $(if $(UPGRADE),--upgrade)

lock: ## requirements/*.txt from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: https://docs.astral.sh/uv/" >&2; exit 1; }
	$(LOCK) pyproject.toml --output-file requirements/runtime.txt
	$(LOCK) pyproject.toml --constraint requirements/runtime.txt --extra demo --group dev --output-file requirements/dev.txt
	$(LOCK) --group build --constraint requirements/dev.txt --output-file requirements/build.txt
	$(LOCK) --group patroni --output-file requirements/patroni.txt
	$(LOCK) --group drivers --constraint requirements/dev.txt --output-file requirements/drivers.txt
	$(LOCK) --group sqlalchemy --output-file requirements/sqlalchemy.txt
	$(LOCK) --group deploy --output-file requirements/deploy.txt
	@! grep -n 'https\?://' requirements/*.txt

clean: ## everything that was built; .venv too
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis $(VENV)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find pgproxy \( -name '*.so' -o -name '*.manifest' \) -delete
