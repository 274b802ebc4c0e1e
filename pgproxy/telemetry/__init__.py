"""What operators see: metrics, health endpoints, logs."""
