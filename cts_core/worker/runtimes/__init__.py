"""The container runtimes: programs of the host, docker or podman, apptainer."""
