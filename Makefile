# Everything runs in .venv, which the targets set up by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := .tools/.ready
# Two tests at a time: more would measure each other's load, and each has a broker of its own.
PYTEST := $(BIN)/pytest -n 2 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo live test test-slow check format bench bench-join bench-learn bench-guard \
	bench-kafka bench-live bench-windows chaos soak floors papers lock check-lock sbom digests image \
	clean-kernels clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test,bench,check]'
	$(BIN)/python -m compileall -q headrace schemas joiner learners monitoring pipelines
	$(BIN)/python -m headrace.pipelines.app.kernels
	@touch $@

setup: $(READY) ## create .venv with all that the other targets need, and compile (two minutes)

demo: $(READY) ## generate a small log, replay it, and write a report to demo-out/
	$(BIN)/headrace generate --out demo-out/log --impressions 200000 --format text
	$(BIN)/headrace replay demo-out/log/headrace.toml --out demo-out/result

live: $(READY) ## run a broker, traffic and headrace stream, until Ctrl-C (needs Java and Maven)
	@exec $(BIN)/python docker/kafka/live.py

test: $(READY) ## run the tests
	$(PYTEST) -m 'not slow'

test-slow: $(READY) ## run the long proofs too
	$(PYTEST)

check: $(READY) ## lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_imports.py

format: $(READY) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## compare speed and memory of a whole replay with its rivals
	$(BIN)/python -m benchmarks.replay

bench-join: $(READY) ## compare the join alone with an offline left join
	$(BIN)/python -m benchmarks.join

bench-learn: $(READY) ## compare the learners alone with Vowpal Wabbit and river
	$(BIN)/python -m benchmarks.learn

bench-guard: $(READY) ## measure when the guard sees faults, false alarms, and what faults cost a model
	$(BIN)/python -m benchmarks.guard
	$(BIN)/python -m benchmarks.harm

bench-kafka: $(READY) ## measure the clients that read topics of Kafka (needs Java and Maven)
	$(BIN)/python -m benchmarks.kafka

bench-live: $(READY) ## measure speed and delays of headrace stream (needs Java and Maven)
	$(BIN)/python -m benchmarks.live

chaos: $(READY) ## kill headrace stream and its broker a hundred times (needs Java and Maven)
	$(BIN)/python -m benchmarks.chaos

soak: $(READY) ## run headrace stream for ten minutes with faults (needs Java and Maven)
	$(BIN)/python -m benchmarks.soak

bench-windows: $(READY) ## measure memory with twenty million waiting impressions
	$(BIN)/python -m benchmarks.windows

floors: $(READY) ## measure learners beside floors (DATA=folder of the data sets, or generated logs alone)
	$(BIN)/python -m benchmarks.floors $(DATA)

papers: $(READY) ## measure what papers promise (DATA=folder of the data sets, or generated traffic alone)
	$(BIN)/python -m benchmarks.papers $(DATA)

$(TOOLS): Makefile
	$(PYTHON) -m venv .tools
	.tools/bin/pip install --quiet pip-tools==7.6.2 cyclonedx-bom==7.5.0
	@touch $@

LOCK := docker/requirements.lock

lock: $(TOOLS) ## write versions and checksums of what the image installs (three minutes)
	.tools/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --extra kafka -c constraints.txt -o .tools/lock.txt setup.py
	{ sed -n '/^#/p' $(LOCK); cat .tools/lock.txt; } > .tools/new.lock
	mv .tools/new.lock $(LOCK)

check-lock: $(TOOLS) ## fetch what the image installs, and compare checksums; nothing is installed
	.tools/bin/pip install --quiet --require-hashes --no-deps --dry-run --ignore-installed -r $(LOCK)

sbom: $(TOOLS) ## write sbom.json: the packages of the image, as CycloneDX
	.tools/bin/cyclonedx-py requirements --output-format JSON --output-file sbom.json $(LOCK)

digests: ## write docker/.env: the base images by the digests that their tags have now (needs Docker)
	@for name in PYTHON_IMAGE BEAM_IMAGE; do \
		image=$$(sed -n "s/^ARG $$name=//p" docker/Dockerfile); \
		digest=$$(docker buildx imagetools inspect $$image --format '{{.Manifest.Digest}}') || exit 1; \
		echo "$$name=$$image@$$digest"; \
	done > docker/.env.new
	mv docker/.env.new docker/.env

image: digests ## build the image from base images by digest (needs Docker)
	docker build -f docker/Dockerfile -t headrace $$(sed 's/^/--build-arg /' docker/.env) .

clean-kernels: ## remove compiled kernels, which do not notice changes in what they inline
	find schemas joiner learners monitoring pipelines -name '*.nb[ic]' -delete
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/headrace/kernels"

clean: ## remove everything that the targets create
	rm -rf $(VENV) .tools sbom.json demo-out live-out bench-out build *.egg-info
