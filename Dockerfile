# svd-loop in a container. One of two targets:
#   docker build --target cpu  -t svd-loop:cpu .      the embedded model, checks, judging, schedules; torch without CUDA
#   docker build --target cuda -t svd-loop:cuda .     a real model on GPUs, with vLLM; run it with --gpus all
# The coding domain contains programs by user namespaces and seccomp. Docker's default profile refuses them inside a
# container: `--security-opt seccomp=unconfined` allows them, or SVD_LOOP_OPEN_SANDBOX=1 does without (docs/guides/data.md).
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 learner && mkdir /work && chown learner /work
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY svd_loop ./svd_loop
COPY envs ./envs
COPY policies ./policies
COPY configs ./configs

FROM base AS cpu
COPY requirements.lock ./
RUN pip install --require-hashes --no-deps -r requirements.lock \
 && pip install --index-url https://download.pytorch.org/whl/cpu "torch==2.13.0" \
 && pip install --no-deps .
USER 1000
WORKDIR /work
ENTRYPOINT ["svd-loop"]
CMD ["--help"]

FROM base AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
# gcc: vLLM and torch compile kernels when they start. Its version is that of the image's Debian, and pip's own
# requirements have bounds in pyproject.toml.
# hadolint ignore=DL3008,DL3013
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/* \
 && pip install ".[vllm]"
USER 1000
WORKDIR /work
ENTRYPOINT ["svd-loop"]
CMD ["--help"]
