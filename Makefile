# make up     builds, and starts three replicas on this machine
# make down   stops them; their data stays in run/
# make clean  stops them, and removes run/
# make test   passes the tests
# make chaos  attacks three replicas for SECONDS=60 and looks for what was lost;
#             also REPLICAS=5 and SEED=n
# make abuse  floods a replica in every way that strangers have, while a client joins
# make fuzz   gives every parser bad input for SECONDS=60, and says what it broke
# make audit  checks the licences, sources and known faults of what is built in
# make deb    packs target/release/quorumscale for Debian, into target/deb
# make sim    simulates SEEDS=100 clusters under faults; SEED=n runs that one again
# make bench  measures what things cost, and three fresh replicas with NODES="100 300 1000"
#             clients each time (docs/performance.md); tools/bench has more settings

# make corpus compares the policy language with what Tailscale's service answered:
#             POLICY_CORPUS names the captures, a folder or its archive

# What is beside the project, if it is there.
POLICY_CORPUS ?= $(wildcard ../shared/policy-corpus.tar.zst)

.PHONY: up down clean build test chaos abuse fuzz audit sim corpus bench deb

up:
	@cluster/up

down:
	@cluster/down

clean: down
	rm -rf run

build:
	@tools/check build
	@tools/build

test:
	@tools/check test
	@tools/test

chaos:
	@tools/check build
	@CHAOS_SECONDS=$(SECONDS) CHAOS_REPLICAS=$(REPLICAS) CHAOS_SEED=$(SEED) tools/chaos

abuse:
	@tools/check build
	@tools/abuse

fuzz:
	@tools/check test
	@tools/fuzz $(or $(SECONDS),60)

audit:
	@tools/audit

sim:
	@tools/check test
	@SIM_SEEDS=$(or $(SEEDS),100) SIM_SEED=$(SEED) tools/cargo test --release --locked --lib \
	  simulated_clusters_keep -- --nocapture

corpus:
	@tools/check test
	@tools/corpus "$(POLICY_CORPUS)"

bench:
	@tools/check build
	@tools/bench

deb:
	@tools/check build
	@tools/build
	@tools/deb
