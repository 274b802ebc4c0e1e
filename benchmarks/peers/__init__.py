"""The proxies that are compared, each started with comparable settings: 20 server connections."""
