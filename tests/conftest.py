"""The servers that tests may ask for by the names of their fixtures."""

pytest_plugins = [
    "tests.services.registry",
    "tests.simulators.kbase_auth",
]
