"""
Middleware: memory growth by route, and admission control while memory is critical.

One module for each framework; each needs that framework and no other.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.integrations.web import asgi as asgi
    from memguard.integrations.web import django as django
    from memguard.integrations.web import flask as flask
    from memguard.integrations.web import starlette as starlette
    from memguard.integrations.web import wsgi as wsgi
    from memguard.integrations.web.requests import RequestWatch as RequestWatch
    from memguard.integrations.web.requests import WatchedRequest as WatchedRequest
    from memguard.integrations.web.routes import RequestStatistics as RequestStatistics
    from memguard.integrations.web.routes import RouteStatistics as RouteStatistics
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.integrations.web": "asgi django flask starlette wsgi",
            "memguard.integrations.web.requests": "RequestWatch WatchedRequest",
            "memguard.integrations.web.routes": "RequestStatistics RouteStatistics",
        },
    )
