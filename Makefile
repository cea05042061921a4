# SPDX-License-Identifier: Apache-2.0
# Two commands for users: make demo, make test. The rest is for those who change the code; see make help.
SHELL := /bin/bash
VENV := $(or $(LMCACHE_VENV),.venv)
PYTHON := $(VENV)/bin/python
CPP_FOLDERS := $(wildcard include cpp cuda bindings tests/cpp tests/cuda_sim tests/fuzz examples)
PYTHON_FOLDERS := $(wildcard python tests scripts examples)
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint test-cpp test-py test-asan test-tsan test-cuda test-fuzz test-embed test-vllm test-differential format clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 24

setup:  ## install what is missing, build, install into .venv
	@bash scripts/setup.sh

demo:  ## set up, then show on a real model what the cache saves
	@bash scripts/setup.sh --with-model
	@$(PYTHON) examples/demo/demo.py

test:  ## set up, then run every check and test
	@bash tests/run.sh

lint:  ## layers, mirrored tests, names, ruff, mypy, clang-format
	@bash tests/run.sh lint

test-cpp:  ## C++ tests
	@bash tests/run.sh cpp

test-asan:  ## C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@bash tests/run.sh asan

test-tsan:  ## C++ tests under ThreadSanitizer
	@bash tests/run.sh tsan

test-cuda:  ## copies by CUDA on a simulated device, with the sanitizers, and with each wait removed
	@bash tests/run.sh cuda

test-fuzz:  ## parsers of what lies on disk, a minute each, on inputs that libFuzzer makes up
	@bash tests/run.sh fuzz

test-py:  ## Python tests that need no vLLM
	@bash tests/run.sh install python

test-embed:  ## the wheel, and a C++ program built against it
	@bash tests/run.sh embed

test-vllm:  ## end-to-end tests with vLLM, also those that make test leaves out
	@bash tests/run.sh install vllm matrix

test-differential:  ## random requests against vLLM alone, token by token: MINUTES=30 SEED=... SETUP="..."
	@bash tests/run.sh install differential

format:  ## format C++ and Python in place
	@$(VENV)/bin/ruff check --quiet --fix $(PYTHON_FOLDERS) || true
	@$(VENV)/bin/ruff format $(PYTHON_FOLDERS)
	@find $(CPP_FOLDERS) -name '*.[ch]pp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' | xargs $(VENV)/bin/clang-format -i

clean:  ## remove what was built, but not .venv and the model
	@find build -mindepth 1 -maxdepth 1 ! -name models -exec rm -rf {} + 2>/dev/null || true
