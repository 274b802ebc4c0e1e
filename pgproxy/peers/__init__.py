"""The other proxies of the same service: who they are, and what all of them share."""
