"""One replica becomes slow: with limits that are learnt and without."""
