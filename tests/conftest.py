"""The servers that tests may ask for by the names of their fixtures."""

pytest_plugins: list[str] = ["tests.simulators.kbase_auth"]
