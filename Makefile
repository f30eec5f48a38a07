# SPDX-License-Identifier: Apache-2.0
# make setup   a virtual environment with ROS 2, where it is missing, PyTorch and the tools for tests
# make demo    images -> camera topic -> detector node -> annotated images in demo_out/
# make test    all tests, in a few minutes
# make test-fast   those that need no ROS graph and no training, in one
# make coverage    all tests, and which lines of ssd_ros/ and training/ none of them runs
# make lint    formatting, lint and types
# make bench   all benchmarks of this processor, in a quarter of an hour, into docs/benchmarks.md
# make bench-cuda  detector against torchvision on the GPU, into docs/benchmarks.md
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast coverage lint format bench bench-cuda clean

VENV ?= .venv
PYTHON ?= python3
IN_VENV := source "$(VENV)/setup.sh"

# The demo's own camera and weights, or yours: make demo DEMO_WEIGHTS=my.safetensors DEMO_IMAGES=dir
DEMO_WEIGHTS ?= demo
DEMO_IMAGES ?=
# More options of `python -m demo`: make demo DEMO_OPTIONS=--live
DEMO_OPTIONS ?=

# Options of benchmarks/run_all.py: make bench BENCH="--only inference node"
BENCH ?=

help:
	@sed -n 's/^# \(make .*\)/\1/p' $(firstword $(MAKEFILE_LIST))

setup:
	@$(PYTHON) pip_ros/install.py --venv "$(VENV)" --dev

demo:
	@$(PYTHON) pip_ros/install.py --venv "$(VENV)" --demo
	$(IN_VENV)
	if [ -n "$(DEMO_IMAGES)" ]; then
	    python -m demo --weights "$(DEMO_WEIGHTS)" --images "$(DEMO_IMAGES)" $(DEMO_OPTIONS)
	else
	    python -m demo.camera demo_out/camera
	    python -m demo --weights "$(DEMO_WEIGHTS)" --images demo_out/camera/frames \
	        --truth demo_out/camera/truth.json $(DEMO_OPTIONS)
	fi

# Two processes: most tests wait for nodes and trainings rather than compute.
test: setup
	@$(IN_VENV)
	python -m pytest -n 2 --dist loadfile

test-fast: setup
	@$(IN_VENV)
	python -m pytest -m "not graph and not training and not slow"

coverage: setup
	@$(IN_VENV)
	coverage erase
	status=0
	coverage run -m pytest || status=$$?
	coverage combine -q
	coverage report
	exit $$status

lint: setup
	@$(IN_VENV)
	ruff format --check .
	ruff check .
	mypy
	echo "lint: formatting, lint and types are clean"

format: setup
	@$(IN_VENV)
	ruff check --fix .
	ruff format .

bench: setup
	@$(IN_VENV)
	python benchmarks/run_all.py $(BENCH)

bench-cuda: setup
	@$(IN_VENV)
	python benchmarks/detector.py --device cuda --rounds 100 --save benchmarks/results
	python benchmarks/render.py

clean:
	rm -rf "$(VENV)" demo_out build install log
