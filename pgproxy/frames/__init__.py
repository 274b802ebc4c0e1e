"""② Bytes to frames and back. PURE."""
