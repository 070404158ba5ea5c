# Two commands matter: `make run` plays the loop on the embedded model, `make test` passes the tests.
# Each sets itself up on a fresh machine: a virtual environment and the pinned dependencies.

PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ARGS   ?=

VLLM_VENV  ?= .venv-vllm
VLLM_BIN   := $(VLLM_VENV)/bin
VLLM_READY := $(VLLM_VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup run test coverage lint lock clean setup-vllm test-vllm lock-vllm

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: $(READY)  ## virtual environment with the pinned dependencies

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

run: $(READY)  ## the main job: the embedded model improves itself (ARGS="--json" and the like)
	$(BIN)/svd-loop run configs/nano.yaml $(ARGS)

test: $(READY)  ## the whole test suite, one process a core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

coverage: $(READY)  ## the same with the coverage of every line, which takes longer
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --cov=svd_loop --cov=envs --cov=policies \
		--cov-report=term:skip-covered $(ARGS)

lint: $(READY)  ## ruff and mypy (strict)
	$(BIN)/ruff check .
	$(BIN)/mypy

lock: $(READY)  ## rewrite requirements.lock from the environment
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock

setup-vllm: $(VLLM_READY)  ## a second environment with vLLM for machines without a GPU

# No dependencies are resolved here: torchvision, torchaudio, torchcodec and triton, which vLLM names and text models do
# not need, are left out of the lock because their builds do not match a CPU torch.
$(VLLM_READY): requirements-vllm.lock pyproject.toml
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_BIN)/python -m pip install --quiet --no-deps -r requirements-vllm.lock
	$(VLLM_BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

test-vllm: $(VLLM_READY)  ## the tests that need vLLM
	$(VLLM_BIN)/python -m pytest -m vllm $(ARGS)

lock-vllm: $(VLLM_READY)  ## rewrite requirements-vllm.lock from its environment
	$(VLLM_BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements-vllm.lock

clean:  ## remove the environment and caches (never mlruns)
	rm -rf $(VENV) $(VLLM_VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
