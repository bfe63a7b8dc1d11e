# make up     builds, and starts three replicas on this machine
# make down   stops them; their data stays in run/
# make clean  stops them, and removes run/
# make test   passes the tests

.PHONY: up down clean build test

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
