# What a person types. `make demo` and `make test` need Python 3.11 or newer and nothing else.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/installed

PURE   := $(VENV)/pure
# What runs through compiled modules, and so differs where they are not.
CORE_TESTS := tests/protocol/relay tests/protocol/test_rates.py tests/test_frames.py \
	tests/test_envelope.py tests/test_vectors.py tests/relay/test_framing.py \
	$(patsubst %,tests/properties/test_%.py,envelope_properties frames_properties peer_model \
	reference_model router_model session_properties short_ways)

# A suite starts hundreds of Pythons: where nothing may be kept, each compiles all it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-pure test-long faults lint check format interop pages pictures lock \
	core compiled pure count clean

help:             ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: core        ## watch agents talk through a relay; ends by itself
	@$(BIN)/python -m demo

test: core        ## run every test, on every core
	$(BIN)/python -m pytest -n auto --dist worksteal

test-long: core      ## the long forms too: more examples, more frames, more kills
	$(BIN)/python -m pytest -m "long or not long" --hypothesis-profile=long --timeout=1800

faults: core      ## the proof under faults, at length: kills, bad networks, attacks; with its counts
	$(BIN)/python -m pytest -m "long or not long" -rP --timeout=1800 tests/faults tests/attacks

test-pure: $(STAMP)  ## the core's own tests once more, on plain Python
	@rm -rf build/pure && mkdir -p build && cp -R src build/pure && find build/pure -name '*.so' -delete
	PYTHONPATH=$(CURDIR)/build/pure $(BIN)/python -m pytest -n auto --dist worksteal $(CORE_TESTS)

lint: $(STAMP)    ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

count: core       ## how many instructions a message costs the core, beside those on record
	$(BIN)/python -m benchmarks.instructions --check

check: lint test test-pure count  ## what CI runs

format: $(STAMP)  ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

interop: core     ## against the reference, built elsewhere: make interop REFERENCE=DIR [REFERENCE_OLD=DIR]
	@test -n "$(REFERENCE)" || { echo "say where it is: make interop REFERENCE=DIR (see docs/howto/interop.md)"; exit 2; }
	AGORA_REFERENCE_DIR="$(abspath $(REFERENCE))" \
	AGORA_REFERENCE_OLD_DIR="$(if $(REFERENCE_OLD),$(abspath $(REFERENCE_OLD)))" \
	$(BIN)/python -m pytest tests/interop

pages: $(STAMP)   ## write the pages and the picture that are made from the code
	$(BIN)/python -m tools.reference docs/reference
	cd tests && ../$(BIN)/python -m interop.page > ../docs/reference/differences.md
	$(BIN)/python -m tools.picture

pictures: core    ## take the documents' pictures of dashboard and chat anew, in a browser
	$(BIN)/python -m pytest tests/browser/test_pictures.py --pictures

lock: $(STAMP)    ## resolve the dependencies anew into requirements/
	$(BIN)/python -m tools.lock

compiled: $(STAMP)  ## run the core compiled, as all of the above do where there is a C compiler
	@rm -f $(PURE)
	$(BIN)/python hatch_build.py

pure: $(STAMP)    ## run the core as plain Python until `make compiled`: for editing it
	AGORA_COMPILE=never $(BIN)/python hatch_build.py
	@touch $(PURE)

core: $(STAMP)
	@test -e $(PURE) || $(BIN)/python hatch_build.py

clean:            ## remove what the above made
	find src -name '*.so' -delete
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage build dist

# Installed once, and again when what is locked or declared has changed.
$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Agora needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
