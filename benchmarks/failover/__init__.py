"""What a failover costs the clients of pgproxy, of HAProxy and of Pgpool-II."""
