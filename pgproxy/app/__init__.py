"""The composition root: builds every part, connects them, and takes them down in order.

serving     the process: `serve`, `serve_as_worker`
proxy       `Proxy`: both sides together; runs, drains, closes
clients     the parts that applications meet
servers     the parts that meet PostgreSQL, and what follows from what is learnt of it
settings    what the configuration says, in the terms of each part
tasks       work in the background
"""

from pgproxy.app.proxy import Proxy, Ready
from pgproxy.app.serving import serve, serve_as_worker

__all__ = ["Proxy", "Ready", "serve", "serve_as_worker"]
