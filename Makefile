# Thin: every recipe is a command that can be typed by hand.
.PHONY: help demo test check lint native viewer check-viewer oracles

help:
	@echo "make demo     install the core, then fit the built-in rose: videos, PLY files and a report in output/rose"
	@echo "make test     install the tests' tools beside it, then run the tests"
	@echo "make check    what CI runs: ruff, pyright, the tests"
	@echo "make native   build the native code again"
	@echo "make viewer   build the page of rose.html again from viewer/; needs node"
	@echo "make check-viewer   build it beside the shipped one, compare, and try it in Chromium"
	@echo "make oracles  other people's readers on what output/rose exports (needs node, and Chromium for the pictures)"

demo: .venv/.installed
	.venv/bin/python train.py --configs arguments/i2v.py -e rose

test: .venv/.installed-dev
	.venv/bin/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

check: lint test

lint: .venv/.installed-dev
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/pyright --pythonpath .venv/bin/python

native: .venv/.installed
	tools/install.sh native

PAGE := gs4d/export/page_assets/viewer.html

viewer: viewer/node_modules/.installed
	cd viewer && npm run --silent check && npm run --silent build

check-viewer: viewer/node_modules/.installed .venv/.installed-dev
	cd viewer && npm run --silent check && node build.mjs ../build/viewer.html
	cmp build/viewer.html $(PAGE) || { echo "$(PAGE) is not what viewer/ builds; run make viewer" >&2; exit 1; }
	@if [ -x "$${CHROMIUM:-/usr/bin/chromium}" ]; then .venv/bin/python viewer/test/check.py build/viewer; \
	else echo "there is no Chromium here, so the page was not tried; name one with CHROMIUM=/path/to/chrome" >&2; fi

viewer/node_modules/.installed: viewer/package.json viewer/package-lock.json
	tools/install.sh viewer
	@touch $@

oracles: .venv/.installed-dev tools/oracles/node_modules/.package-lock.json
	.venv/bin/python tools/oracles/check.py output/rose

tools/oracles/node_modules/.package-lock.json: tools/oracles/package-lock.json
	cd tools/oracles && npm ci --ignore-scripts

# When only the native code changed, only that is built again.
.venv/.installed: pyproject.toml constraints.txt tools/install.sh $(wildcard submodules/native/*)
	tools/install.sh $(if $(filter-out submodules/native/%,$?),,native)
	@touch $@

# The native code may change without the tests' tools being installed again.
.venv/.installed-dev: pyproject.toml constraints.txt tools/install.sh | .venv/.installed
	tools/install.sh extra dev
	@touch $@
