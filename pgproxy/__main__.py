"""`python -m pgproxy`: the same as the `pgproxy` command."""

from pgproxy.cli import main

if __name__ == "__main__":
    main()
