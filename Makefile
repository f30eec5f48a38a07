# SPDX-License-Identifier: Apache-2.0
# make setup   a virtual environment with ROS 2 and torch, where they are missing
# make demo    pictures -> camera topic -> detector node -> annotated pictures in demo_out/
# make test    all tests
# make lint    formatting, lint and types
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format clean

VENV ?= .venv
PYTHON ?= python3
IN_VENV := source "$(VENV)/setup.sh"

# Until the package has weights of its own, the demo takes these, or a data set beside the clone.
SHARED := $(wildcard ../shared/weights/bccd_torchvision.pth)
DEMO_WEIGHTS ?= $(if $(SHARED),demo_out/bccd.safetensors)
DEMO_IMAGES ?= $(if $(SHARED),../shared/data/bccd/JPEGImages)

help:
	@sed -n 's/^# \(make .*\)/\1/p' $(firstword $(MAKEFILE_LIST))

setup:
	@$(PYTHON) pip_ros/install.py --venv "$(VENV)" --dev

demo: setup
	@if [ -z "$(DEMO_WEIGHTS)" ] || [ -z "$(DEMO_IMAGES)" ]; then
	    echo "make demo needs a weights file and pictures:" >&2
	    echo "  make demo DEMO_WEIGHTS=my.safetensors DEMO_IMAGES=folder" >&2
	    echo "torchvision's ssd300_vgg16 weights (.pth) serve as well." >&2
	    exit 1
	fi
	$(IN_VENV)
	if [ "$(DEMO_WEIGHTS)" = demo_out/bccd.safetensors ]; then
	    python -m ssd_ros.model.weights convert "$(SHARED)" "$(DEMO_WEIGHTS)" \
	        --classes Platelets RBC WBC
	fi
	python -m ssd_ros.demo --weights "$(DEMO_WEIGHTS)" --images "$(DEMO_IMAGES)"

test: setup
	@$(IN_VENV)
	python -m pytest

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

clean:
	rm -rf "$(VENV)" demo_out build install log
