"""Which PostgreSQL servers there are and what each one may do."""
