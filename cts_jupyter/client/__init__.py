"""A client of any CTS service, new or deployed, for notebooks and scripts. It needs neither Jupyter nor IPython."""

from cts_jupyter.client.async_client import AsyncClient
from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.models import JobDetails
from cts_jupyter.client.transport import CTSClientError, CTSConnectionError, CTSRequestError

__all__ = [
    "AsyncClient",
    "CTSClient",
    "CTSClientError",
    "CTSConnectionError",
    "CTSRequestError",
    "JobDetails",
]
