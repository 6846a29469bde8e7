"""A page that counts its visitors in Redis, which it speaks to over a plain socket."""

import argparse
import os
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--redis", type=int, required=True)
options = parser.parse_args()
instance = os.environ.get("NM_INSTANCE", "-")


def redis(*words):
    """One command; its answer is a status or a number. Raises OSError when Redis does not answer."""
    request = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    with socket.create_connection(("127.0.0.1", options.redis), timeout=2) as connection:
        connection.sendall(request.encode())
        answer = connection.makefile().readline().strip()
    if answer[:1] not in ("+", ":"):
        raise OSError(f"Redis answered {answer!r}")
    return answer[1:]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            if self.path == "/alive":
                self.answer(200, "alive")
            elif self.path == "/ready":
                self.answer(200, redis("PING"))
            else:
                visits = redis("INCR", "visits")
                self.answer(200, f"visit {visits}, answered by instance {instance}, PID {os.getpid()}")
        except OSError as error:
            self.answer(503, f"Redis cannot be asked: {error}")

    def answer(self, status, text):
        body = (text + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *words):
        if self.path not in ("/alive", "/ready"):
            print(format % words)


class Server(ThreadingHTTPServer):
    daemon_threads = False      # the end waits for the requests that were begun
    request_queue_size = 128


server = Server(("127.0.0.1", options.port), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever(poll_interval=0.1)
server.server_close()
