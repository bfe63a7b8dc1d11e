# make up     builds, and starts three replicas on this machine
# make down   stops them; their data stays in run/
# make clean  stops them, and removes run/
# make test   passes the tests
# make corpus compares the policy language with what Tailscale's service answered:
#             POLICY_CORPUS names the captures, a folder or its archive

POLICY_CORPUS ?=

.PHONY: up down clean build test corpus

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

corpus:
	@tools/check test
	@tools/corpus "$(POLICY_CORPUS)"
