# Everything that people run. Each target is one line or one script under scripts/.

.PHONY: help demo test compose-test check bench bench-peers fuzz bench-history bench-watch bench-notify bench-scale bench-pipeline chaos

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: ## all of it on this machine, told step by step; no Docker
	@scripts/demo.sh

test: ## every test, the end-to-end tests on Apache Kafka where Java 17 and Maven are found
	@scripts/test.sh

compose-test: ## the containers: built, started, tried through their ports, each restarted, taken down
	@scripts/compose-test.sh

check: ## format, lints, documentation, import directions, licences and advisories
	@scripts/check.sh

bench: ## memory, CPU time and delays of the broker, few and many locks, mosquitto beside it; 7 minutes
	@scripts/bench.sh

bench-scale: ## the broker from 100 to a million locks, as a table and a plot; 10 minutes, 8 GB of memory
	@scripts/bench-scale.sh

bench-peers: ## the broker beside mosquitto, rumqttd and a bare echo, the bridge beside a bare producer; 20 minutes
	@scripts/bench-peers.sh

bench-history: ## what the auditor takes in, and how fast it answers at ten million rows; 10 minutes
	@scripts/bench-history.sh

bench-watch: ## the monitor under 20,000 reports a second of a million locks; 5 minutes
	@scripts/bench-watch.sh

bench-notify: ## the notifier: from a record to the mail server and the SMS gateway; 3 minutes
	@scripts/bench-notify.sh

bench-pipeline: ## a million locks through Kafka into all services, as a table and a plot; 15 minutes, 10 GB of memory
	@scripts/bench-pipeline.sh

fuzz: ## each fuzz target for FUZZ_S seconds (60)
	@scripts/fuzz.sh

chaos: ## the whole system while faults strike it at random, then an account of each message; 20 minutes
	@scripts/chaos.sh
