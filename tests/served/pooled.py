"""A pool of `multiprocessing` behind a socket: ``pooled.py METHOD SOCKET [preload]``."""

import multiprocessing
import signal
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler
from multiprocessing.pool import Pool

import application  # type: ignore[import-not-found]

pool: Pool


class Handler(BaseHTTPRequestHandler):
    """Has each request answered by a process of the pool."""

    def do_GET(self) -> None:
        body = pool.apply(application.answer, (self.path,))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a socket"

    def log_message(self, *_: object) -> None:
        pass


class Server(socketserver.ThreadingUnixStreamServer):
    """Serves until SIGTERM."""

    request_queue_size = 64


if __name__ == "__main__":
    method, socket, *preload = sys.argv[1:]
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload(["application"] if preload else [])
    begin = application.guard if application.WHERE == "hook" else None
    with context.Pool(2, initializer=begin) as pool, Server(socket, Handler) as server:
        stop = threading.Thread(target=server.shutdown)
        signal.signal(signal.SIGTERM, lambda *_: stop.start())
        server.serve_forever(0.05)
        stop.join()
        pool.close()
        pool.join()
