"""The site ``kbase``: containers as jobs of an HTCondor pool, one cluster of them for each job of ours."""
