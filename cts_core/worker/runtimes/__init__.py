"""The ways to run a container: programs of the machine, docker or podman, apptainer."""
