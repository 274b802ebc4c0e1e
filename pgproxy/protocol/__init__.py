"""③ Frames to meaning: log-in exchanges, replies owed, session state. PURE."""
