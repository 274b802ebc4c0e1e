"""The composition root: builds every part, connects them, and takes them down in order."""

from pgproxy.app.proxy import Proxy, Ready, serve, serve_as_worker

__all__ = ["Proxy", "Ready", "serve", "serve_as_worker"]
