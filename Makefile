# Two commands do it all: `make demo` and `make test`. Settings: PORT=8000 (the demo uses it and the next two),
# VENV=.venv (an existing environment may be shared by copies of this repository), TESTS=2 (so many at once, 2 GB each).

PORT ?= $(shell cat .demo/port 2>/dev/null || echo 8000)
VENV ?= .venv
TESTS ?= 2
override VENV := $(abspath $(VENV))
BIN := $(VENV)/bin
AZURITE := tests/azurite/node_modules/.package-lock.json
PYTHON ?= $(shell for python in python3 python3.13 python3.12; do \
	$$python -c 'import sys; sys.exit(not (3, 12) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$python && exit; done; echo python3)

export PORT VENV
# The programs, tests and linters of this copy see this copy's code, also in an environment made for another one.
export PYTHONPATH := $(CURDIR)/agent:$(CURDIR)/server
# ansible-lint looks for ansible beside it.
IN := PATH="$(BIN):$$PATH"

.DEFAULT_GOAL := help
.PHONY: help demo stop clean status login ping check provision drift test test-fleet lint format bench screenshots \
	requirements environment inventory
.NOTPARALLEL:

help: ## Show this list
	@echo "LeFleet: a fleet of SO-101 arms that runs LeRobot policies and records everything it does"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ## Bring up a whole fleet on this machine: server, worker, database, two simulated robots, dashboard
	@command -v $(PYTHON) >/dev/null || { echo "LeFleet: no python3 here; install Python 3.12 or 3.13" >&2; exit 1; }
	@$(PYTHON) ansible/demo/stop.py --orphans
	@$(PYTHON) ansible/demo/preflight.py --port "$(PORT)"
	@$(PYTHON) ansible/demo/environment.py
	@$(PYTHON) ansible/demo/packages.py demo
	@cd ansible && $(IN) ansible-playbook -i ../inventory/demo site.yml
	@$(BIN)/python ansible/demo/welcome.py

stop: ## End the demo and leave no process; its data stays
	@$(PYTHON) ansible/demo/stop.py

clean: stop ## End the demo and forget its data
	@test ! -f .demo/server/server.yml || $(BIN)/lefleet-server postgres --erase --config .demo/server/server.yml
	@rm -rf .demo
	@echo "Forgot .demo; \`make demo\` starts afresh"

status: ## Show what the demo's programs do
	@$(BIN)/supervisorctl -c .demo/supervisor/supervisord.conf status || true

login: ## Print a new one-time log-in for the dashboard
	@$(BIN)/python ansible/demo/welcome.py --login

# Your fleet: INVENTORY=inventory/fleet, LIMIT=robot-03,robot-04, TAGS=swap, MITOGEN=0, ARGS="any words for ansible-playbook".
INVENTORY ?= inventory/fleet
JSON ?= .cache/drift.json
PLAY = cd ansible && $(IN) $(if $(filter 0,$(MITOGEN)),ANSIBLE_STRATEGY=linear) ansible-playbook \
	-i "$(abspath $(INVENTORY))" $(if $(LIMIT),--limit "$(LIMIT)") $(if $(TAGS),--tags "$(TAGS)") $(ARGS)

ping: environment inventory ## Your fleet: see whether every host answers (LIMIT=robot-03)
	@$(PLAY) ping.yml

check: environment inventory ## Your fleet: say what `make provision` would change (LIMIT= TAGS=)
	@$(PLAY) --check --diff site.yml

provision: environment inventory ## Your fleet: make every host what its roles say (LIMIT= TAGS= MITOGEN=0)
	@$(PLAY) site.yml

drift: environment inventory ## Your fleet: where hosts differ from their roles, as a table, metrics and JSON=.cache/drift.json
	@export LEFLEET_REPORT_JSON="$(abspath $(JSON))" && $(PLAY) --check drift.yml

test: lint $(AZURITE) ## Everything that needs no root and no Docker: linters, types, roles, pytest
	@$(PYTHON) ansible/demo/packages.py test
	@$(IN) $(BIN)/pytest -n $(TESTS) --dist loadfile --no-loadscope-reorder --durations 20

# Without it the tests of Azure are skipped, and say so.
$(AZURITE): tests/azurite/package-lock.json | environment
	-@$(IN) npm ci --prefix tests/azurite --ignore-scripts --no-audit --no-fund --loglevel error && touch $@

test-fleet: environment ## The roles on simulated Jetsons, over SSH: needs root and Docker, takes an hour (ARGS="-k swap")
	@$(PYTHON) ansible/demo/packages.py fleet
	@$(IN) $(BIN)/pytest --timeout 3600 tests/fleet $(ARGS)

lint: environment ## ruff, mypy (strict), ansible-lint (production), the playbooks' syntax
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy agent server
	cd ansible/demo && $(BIN)/mypy --config-file ../../pyproject.toml .
	$(IN) ansible-lint
	cd ansible && $(IN) ansible-playbook -i ../inventory/demo --syntax-check *.yml

format: environment ## Lay out the Python code
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

bench: environment ## Measure the figures of docs/benchmarks.md on this machine (ARGS=--help)
	@$(PYTHON) ansible/demo/packages.py bench
	@$(BIN)/python tests/bench/run.py $(ARGS)

screenshots: ## Take the pictures of docs/gallery.md and the README from the running demo
	@$(BIN)/python tests/browser/screenshots.py

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.12 --no-annotate
requirements: environment ## Pin again what the requirements ask for (UPGRADE=--upgrade for newer versions)
	$(COMPILE) $(UPGRADE) --all-extras agent/pyproject.toml server/pyproject.toml tests/requirements.in \
		-o tests/requirements.txt
	$(COMPILE) --all-extras agent/pyproject.toml -c tests/requirements.txt -o agent/requirements.txt
	$(COMPILE) --all-extras server/pyproject.toml -c tests/requirements.txt -o server/requirements.txt
	$(COMPILE) ansible/requirements.in -c tests/requirements.txt -o ansible/requirements.txt

inventory:
	@test -e "$(INVENTORY)" || { echo "LeFleet: there is no $(INVENTORY): copy inventory/example to inventory/fleet and" \
		"describe your hosts in it, or say INVENTORY=path; docs/operations.md goes through it" >&2; exit 1; }

environment:
	@$(PYTHON) ansible/demo/preflight.py
	@$(PYTHON) ansible/demo/environment.py
