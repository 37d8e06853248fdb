"""For workers elsewhere, who show the token of their container, or are executors."""

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


class NodePlan(RootModel[dict[str, object]]):
    """What a worker is told of its container; the worker that comes with this service knows its fields."""


async def get_plan(call: Call, path: ContainerPath) -> NodePlan:
    """``GET …/node/plan``."""
    return NodePlan(await call.engine.workers.plan(_container(call, path)))


async def claim(call: Call, path: ContainerPath, body: Claim) -> ClaimAnswer:
    """``POST …/node/claim``."""
    granted = await call.engine.workers.claim(_container(call, path), body)
    return ClaimAnswer(granted=granted)


async def grant_requests(call: Call, path: ContainerPath, body: ObjectRequests) -> SignedRequests:
    """``POST …/node/objects``."""
    container = _container(call, path)
    return SignedRequests(requests=await call.engine.workers.sign(container, body.requests))


async def update(call: Call, path: ContainerStatePath, body: NodeUpdate) -> None:
    """``PUT …/node/update/{new_state}``."""
    await call.engine.workers.update(_container(call, path), path.new_state, body)


def _container(call: Call, path: ContainerPath) -> ContainerId:
    asked = ContainerId(path.job_id, path.container_num)
    if call.container not in (None, asked):
        raise UnauthorizedError("The token is another container's")
    return asked


_NODE = "/external_exec/jobs/{job_id}/container/{container_num}/node"
ROUTES = (
    Route("GET", f"{_NODE}/plan", get_plan, Access.WORKER, "What a worker is to do"),
    Route("POST", f"{_NODE}/claim", claim, Access.WORKER, "A worker asks for its container"),
    Route(
        "POST",
        f"{_NODE}/objects",
        grant_requests,
        Access.WORKER,
        "Leave to read inputs, and to write outputs and logs, for some minutes",
    ),
    Route(
        "PUT",
        f"{_NODE}/update/{{new_state}}",
        update,
        Access.WORKER,
        "A worker's container has reached a state",
    ),
)
