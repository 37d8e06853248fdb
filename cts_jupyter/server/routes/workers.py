"""Routes for remote workers, which authenticate by their container's token, or as executors."""

from __future__ import annotations

from pydantic import RootModel

from cts_core.errors import UnauthorizedError
from cts_core.model.worker import (
    Claim,
    ClaimAnswer,
    ContainerId,
    NodeUpdate,
    ObjectRequests,
    SignedRequests,
)
from cts_jupyter.server.http.call import Call
from cts_jupyter.server.http.route import Access, Route
from cts_jupyter.server.routes.executors import ContainerStatePath
from cts_jupyter.server.routes.jobs import ContainerPath

WORKER = "CTS-Worker"
"""The header with the random id with which a worker claimed its container."""


class NodePlan(RootModel[dict[str, object]]):
    """The plan of a worker's container; its fields are known to the worker that comes with this service."""


async def get_plan(call: Call, path: ContainerPath) -> NodePlan:
    """``GET …/node/plan``."""
    return NodePlan(await call.engine.workers.plan(_container(call, path)))


async def claim(call: Call, path: ContainerPath, body: Claim) -> ClaimAnswer:
    """``POST …/node/claim``."""
    granted = await call.engine.workers.claim(_container(call, path), body)
    return ClaimAnswer(granted=granted)


async def grant_requests(call: Call, path: ContainerPath, body: ObjectRequests) -> SignedRequests:
    """``POST …/node/objects``."""
    container = await _claimed_container(call, path)
    return SignedRequests(requests=await call.engine.workers.sign(container, body.requests))


async def update(call: Call, path: ContainerStatePath, body: NodeUpdate) -> None:
    """``PUT …/node/update/{new_state}``."""
    await call.engine.workers.update(await _claimed_container(call, path), path.new_state, body)


def _container(call: Call, path: ContainerPath) -> ContainerId:
    container = ContainerId(path.job_id, path.container_num)
    if call.container not in (None, container):
        raise UnauthorizedError("The token is another container's")
    return container


async def _claimed_container(call: Call, path: ContainerPath) -> ContainerId:
    """Return the container, which the worker must hold. Workers of earlier versions do not say which they are."""
    container = _container(call, path)
    worker = call.headers.get(WORKER)
    if worker is not None:
        await call.engine.workers.check_claim(container, worker)
    return container


_NODE = "/external_exec/jobs/{job_id}/container/{container_num}/node"
ROUTES = (
    Route("GET", f"{_NODE}/plan", get_plan, Access.WORKER, "The plan of a worker's container"),
    Route("POST", f"{_NODE}/claim", claim, Access.WORKER, "Claim a container for a worker"),
    Route(
        "POST",
        f"{_NODE}/objects",
        grant_requests,
        Access.WORKER,
        "Presigned requests that read inputs and write outputs and logs, valid for some minutes",
        headers=(WORKER,),
    ),
    Route(
        "PUT",
        f"{_NODE}/update/{{new_state}}",
        update,
        Access.WORKER,
        "Report that a worker's container has reached a state",
        headers=(WORKER,),
    ),
)
