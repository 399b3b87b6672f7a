# Thin: every target calls Python. `make` alone lists the targets.

CONFIG ?= demo
SIM    ?= verilator
SEED   ?= 1
WAVES  ?=
# Of `make soak`.
N      ?= 5000
EACH   ?= 250
# Of `make fpga`: see docs/fpga.md. FREQ in MHz, SEEDS placements of which the fastest is taken.
BOARD  ?= ulx3s_85f
FREQ   ?=
SEEDS  ?=
# Tests that `make sim` and `make test` run: a folder, a file, or a pytest name in quotes.
TESTS  ?= tests
VENV   ?= .venv
JOBS   ?= 2

PYTHON3 ?= python3
BIN     := $(VENV)/bin
PYTHON  := $(BIN)/python
STAMP   := $(VENV)/.rowmesh-installed

# The environment's tools come first: Verilator's makefile calls `python`.
export PATH := $(abspath $(BIN)):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long lint rtl sim sim-shell sim-netlist networks soak area fpga bench clean

help: ## list the targets
	@echo "rowmesh: make <target> [CONFIG=$(CONFIG)] [SIM=$(SIM)] [SEED=$(SEED)] [WAVES=1] [TESTS=$(TESTS)]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

setup: $(STAMP) ## make the virtual environment and check the machine's tools

$(STAMP): pyproject.toml tools/setup.py
	$(PYTHON3) tools/setup.py $(VENV)
	@touch $@

demo: $(STAMP) ## run a trained network on the generated RTL, image by image, against the golden model
	$(PYTHON) -m rowmesh.gen.demo

test: lint ## lint, then every test on both simulators
	$(PYTHON) -m pytest -n $(JOBS) -rs -m "not long" $(TESTS)

test-long: $(STAMP) ## the tests that place and route
	$(PYTHON) -m pytest -n $(JOBS) -rs -m long $(TESTS)

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

rtl: $(STAMP) ## write Verilog, register map and C header of CONFIG to build/rtl
	$(BIN)/rowmesh generate --config $(CONFIG) -o build/rtl/$(basename $(notdir $(CONFIG)))

sim: $(STAMP) ## run the cocotb benches on SIM with SEED; WAVES=1 writes FST files
	ROWMESH_SIM=$(SIM) ROWMESH_SEED=$(SEED) WAVES=$(WAVES) \
		$(PYTHON) -m pytest -n $(JOBS) -rs -m cocotb $(TESTS)

sim-shell: $(STAMP) ## run the demo network on a simulated board over a serial port
	$(PYTHON) -m rowmesh.verif.sim_shell

sim-netlist: $(STAMP) ## run the top's bench on the ECP5 netlist of a small machine
	$(PYTHON) -m rowmesh.verif.sim_netlist --seed $(SEED)

networks: $(STAMP) ## run real networks against their reference and on the RTL of two machines
	$(PYTHON) -m rowmesh.verif.networks

soak: $(STAMP) ## run N random networks on the RTL of random machines, EACH on one, from SEED on
	$(PYTHON) -m rowmesh.verif.soak -n $(N) --each $(EACH) --seed $(SEED)

area: $(STAMP) ## synthesize CONFIG and print its area by component
	$(BIN)/rowmesh area --config $(CONFIG)

fpga: $(STAMP) ## build the bitstream of CONFIG for BOARD [FREQ=MHz] [SEEDS=n], and its report
	$(BIN)/rowmesh fpga --config $(CONFIG) --board $(BOARD) \
		$(if $(FREQ),--freq $(FREQ)) $(if $(SEEDS),--seeds $(SEEDS))

bench: $(STAMP) ## measure the published workloads on the RTL; QUICK=1: a few layers
	$(PYTHON) -m rowmesh.verif.benchmarks $(if $(QUICK),--quick)

clean: ## remove what was built, but for the virtual environment
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
