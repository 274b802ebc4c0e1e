"""Several processes that look like one proxy: who starts them, and what they share."""
