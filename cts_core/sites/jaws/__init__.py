"""The sites ``perlmutter-jaws`` and ``lawrencium-jaws``: JGI's JAWS, by way of NERSC."""
