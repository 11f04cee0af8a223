"""
The template of the route that served an ASGI request, from Starlette's or FastAPI's router.

Starlette 1.x leaves the route in the ASGI scope, and FastAPI always did; if it is not there (an
older Starlette, a middleware that copied the scope, no route at all), the router is searched.
Nothing is imported: what has ``routes`` and ``matches`` is a router.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_DEPTH = 10
"""Routers within routers that are followed."""
_ANY_PREFIX = "/*"
"""Stands for a prefix whose template is unknown."""
_FULL = 2
"""``starlette.routing.Match.FULL``."""


def template_of(scope: Mapping[str, Any], root_path: str) -> str | None:
    """
    Return the template of the route that served the request, None if none did.

    Args:
        scope: The request's, after the application has seen it.
        root_path: Its ``root_path`` from before.

    Cost: half a microsecond if the route is in the scope and not below a mount; else as much
    as routing took.
    """
    # The outermost router; "app" is that of the innermost application.
    router = scope.get("router") or scope.get("app")
    route = scope.get("route")
    path = None if route is None else _own_path(scope, route)
    if path is None or _is_mount(route):
        return None if router is None else _search(router, _as_it_was(scope, root_path), _DEPTH)
    if scope.get("root_path", "") == root_path:
        return path
    # The prefix in the scope is what the client wrote; its template is that of the mounts.
    prefix = None
    if router is not None:
        prefix = _prefix(router, _as_it_was(scope, root_path), scope, _DEPTH)
    return (_ANY_PREFIX if prefix is None else prefix) + path


def _own_path(scope: Mapping[str, Any], route: Any) -> str | None:
    # FastAPI 0.12x and newer share a route between the routers that include it; what it is in this
    # one, with their prefixes, is written beside it.
    fastapi = scope.get("fastapi")
    if type(fastapi) is dict:
        context = fastapi.get("effective_route_context")
        if context is not None and getattr(context, "original_route", None) is route:
            return _path(context)
    return _path(route)


def _path(route: Any) -> str | None:
    """Return ``/items/{id}``: the path without the converters, which older routes do not have."""
    # A mounted or included route of Starlette is wrapped, with its whole path, by FastAPI.
    route = getattr(route, "starlette_route", None) or route
    path = getattr(route, "path_format", None)
    if type(path) is not str:
        path = getattr(route, "path", None)
    return path if type(path) is str else None


def _is_mount(route: Any) -> bool:
    """Return whether *route* hands on to an application with a shorter path."""
    return hasattr(route, "app") and not hasattr(route, "endpoint") and hasattr(route, "path_regex")


def _as_it_was(scope: Mapping[str, Any], root_path: str) -> dict[str, Any]:
    """Return the scope as the router got it; matching writes into some of its values."""
    before = {key: value for key, value in scope.items() if key not in ("fastapi", "route")}
    return before | {"root_path": root_path, "path_params": {}}


def _search(router: Any, scope: dict[str, Any], depth: int) -> str | None:
    """Return the whole template of the first route of *router* that matches *scope*."""
    partial = None
    for route in _routes(router):
        match, child = route.matches(scope)
        if match.value == _FULL:
            return _within(route, scope, child, depth)
        if match.value and partial is None:
            partial = _within(route, scope, child, depth)
    return partial


def _within(route: Any, scope: dict[str, Any], child: Mapping[str, Any], depth: int) -> str | None:
    if depth <= 0:
        return None
    contexts = getattr(route, "effective_route_contexts", None)
    if contexts is not None:
        return _included(contexts(), scope)
    inner = getattr(route, "app", None)
    if not hasattr(route, "endpoint") and _has_routes(inner):
        found = _search(inner, {**scope, **child}, depth - 1)
        prefix = getattr(route, "path", "")  # Host has none
        if found is not None and type(prefix) is str:
            return prefix + found
    return _path(route)


def _included(contexts: Iterable[Any], scope: Mapping[str, Any]) -> str | None:
    """Return the path of the first route of an included router of FastAPI."""
    path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
    for context in contexts:
        route = getattr(context, "starlette_route", None) or context
        regex = getattr(route, "path_regex", None)
        methods = getattr(route, "methods", None)
        if regex is None or not regex.match(path):
            continue
        if not methods or scope.get("method") in methods:
            return _path(route)
    return None


def _prefix(router: Any, scope: dict[str, Any], after: Mapping[str, Any], depth: int) -> str | None:
    """Return the templates of the mounts that lead from *scope* to the root path *after*."""
    end = after.get("root_path", "")
    for route in _routes(router):
        inner = getattr(route, "app", None)
        if depth <= 0 or hasattr(route, "endpoint") or inner is None:
            continue
        match, child = route.matches(scope)
        if not match.value:
            continue
        reached = child.get("root_path", scope["root_path"])
        own = getattr(route, "path", "")
        if reached == end and reached != scope["root_path"]:
            return own if type(own) is str else None
        if end.startswith(reached):
            rest = _prefix(inner, {**scope, **child}, after, depth - 1)
            return own + rest if rest is not None and type(own) is str else None
    return None


def _has_routes(app: Any) -> bool:
    return app is not None and hasattr(app, "routes")


def _routes(app: Any) -> Iterable[Any]:
    routes = getattr(app, "routes", None)
    return routes if isinstance(routes, list | tuple) else ()
