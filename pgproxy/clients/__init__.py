"""① Bytes from applications: accept, log in, hand over to the relay."""
