# Thin: every recipe is a command that can be typed by hand.
.PHONY: help demo test check lint native oracles

help:
	@echo "make demo     install what is needed, then fit the built-in rose: videos, PLY files and a report in output/rose"
	@echo "make test     the tests"
	@echo "make check    what CI runs: ruff, pyright, the tests"
	@echo "make native   build the native code again"
	@echo "make oracles  other people's readers on what output/rose exports (needs node, and Chromium for the pictures)"

demo: .venv/.installed
	.venv/bin/python train.py --configs arguments/i2v.py -e rose

test: .venv/.installed
	.venv/bin/python -m pytest

check: lint test

lint: .venv/.installed
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/pyright --pythonpath .venv/bin/python

native: .venv/.installed
	tools/install.sh native

oracles: .venv/.installed tools/oracles/node_modules/.package-lock.json
	.venv/bin/python tools/oracles/check.py output/rose

tools/oracles/node_modules/.package-lock.json: tools/oracles/package-lock.json
	cd tools/oracles && npm ci --ignore-scripts

# When only the native code changed, only that is built again.
.venv/.installed: pyproject.toml constraints.txt tools/install.sh $(wildcard submodules/native/*)
	tools/install.sh $(if $(filter-out submodules/native/%,$?),,native)
	@touch $@
