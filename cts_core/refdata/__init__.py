"""Reference data: how it gets into folders, and the service that stages it for the site ``kbase``."""
