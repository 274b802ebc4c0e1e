"""⑤ Decision to connection: pools of server connections per backend."""
