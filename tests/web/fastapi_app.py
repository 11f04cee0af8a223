"""A FastAPI application that leaks on one route, streams, and holds WebSockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException
from starlette.responses import StreamingResponse

from memguard import MemoryGuard, Scope
from memguard.integrations.web.starlette import install, request_scope

KEPT: list[bytes] = []
EVENTS: list[str] = []

app = FastAPI()
# What else the host has in its memory must not be a reason to measure nothing.
guard = MemoryGuard(leaks=False, relief=False, elevated=0.97, critical=0.99, name="web")
watch = install(app, sample=1.0, warmup=5, guard=guard, admit=True)
router = APIRouter(prefix="/api")
RequestScope = Annotated[Scope, Depends(request_scope)]


@router.get("/leaky/{number}")
def leaky(number: int) -> int:
    """Keep 300 KiB forever; a sync endpoint, in a thread."""
    KEPT.append(b"x" * 300_000)
    return number


@router.get("/fine/{number}")
async def fine(number: int) -> int:
    """Take 300 KiB and give them back."""
    return number + len(b"x" * 300_000) * 0


@router.get("/scoped/{name}")
async def scoped(name: str, scope: RequestScope, background: BackgroundTasks) -> str:
    """Say in which order things end."""
    scope.defer(EVENTS.append, f"{name}: scope")
    background.add_task(EVENTS.append, f"{name}: background")
    return name


@router.get("/broken")
async def broken(scope: RequestScope) -> None:
    """Raise."""
    scope.defer(EVENTS.append, "broken: scope")
    raise ZeroDivisionError


@router.get("/refused")
async def refused() -> None:
    """Answer with an error on purpose."""
    raise HTTPException(409)


@router.get("/stream/{blocks}")
async def stream(blocks: int, scope: RequestScope) -> StreamingResponse:
    """Stream, for longer than the client may listen."""
    scope.defer(EVENTS.append, "stream: scope")

    async def content() -> AsyncIterator[bytes]:
        for _ in range(blocks):
            yield b"x" * 1000
            await asyncio.sleep(0.01)
        EVENTS.append("stream: all")

    return StreamingResponse(content())


@app.get("/health/level")
async def level() -> str:
    """Be exempt."""
    return guard.level


@app.get("/stats")
async def stats() -> dict[str, Any]:
    """Tell."""
    return {
        **asdict(watch.statistics()),
        "events": EVENTS,
        "guard": guard.status().running,
        "admission": asdict(guard.status().admission),
    }


app.include_router(router)
