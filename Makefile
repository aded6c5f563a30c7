# Everything that people run. Each target is one line or one script under scripts/.

.PHONY: help test check

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

test: ## every test, the end-to-end tests on Apache Kafka where Java 17 and Maven are found
	@scripts/test.sh

check: ## format, lints, documentation, import directions, licences and advisories
	@scripts/check.sh

