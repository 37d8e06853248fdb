"""The site ``local``: containers as processes of this machine, each beside a detached worker."""
