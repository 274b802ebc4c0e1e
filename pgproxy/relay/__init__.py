"""Where ① to ⑤ meet: one client, at most one leased server, and what goes from one to the other."""
