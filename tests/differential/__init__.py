"""The same scripts, played with PostgreSQL directly and through the proxy, say the same.

script.py      what one or two clients do, step by step: messages of either protocol
player.py      plays a script against an address; the transcript has every frame of the answers
stage.py       roles, two equal databases, and the comparison of two transcripts
vocabulary.py  the statements of which scripts are made
strategies.py  scripts made by Hypothesis
by_hand.py     scripts for what must be known to be tried
neighbours.py  twenty other clients of the same pool, who change whatever they can
"""
