"""④ Meaning to decision: which role may run a statement, and why. PURE."""
