"""`pgproxy label`: sets a role label on pods, where nobody else does."""
