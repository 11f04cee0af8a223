"""
Middleware: memory growth by route, and admission control while memory is critical.

One module for each framework; each needs that framework and no other.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.integrations.web import asgi, django, flask, starlette, wsgi
    from memguard.integrations.web.requests import RequestWatch, WatchedRequest
    from memguard.integrations.web.routes import RequestStatistics, RouteStatistics

__all__ = [
    "RequestStatistics",
    "RequestWatch",
    "RouteStatistics",
    "WatchedRequest",
    "asgi",
    "django",
    "flask",
    "starlette",
    "wsgi",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.integrations.web": "asgi django flask starlette wsgi",
            "memguard.integrations.web.requests": "RequestWatch WatchedRequest",
            "memguard.integrations.web.routes": "RequestStatistics RouteStatistics",
        },
    )
