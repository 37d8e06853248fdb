"""The service that stages reference data for the site ``kbase``, an application beside the engine."""
