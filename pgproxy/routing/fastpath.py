"""PURE. What FunctionCall does, "Function Call" in the manual's "Message Flow": the fast path.

It names its function by OID: those of large objects, for which libpq and pgjdbc use it, leave
nothing in the session. Any other may be set_config().
"""

from typing import Final

from pgproxy.routing.decision import PRIMARY, Decision
from pgproxy.routing.pins import Pin
from pgproxy.routing.reasons import Reason

_LARGE_OBJECT_FUNCTIONS: Final = frozenset(
    (715, 764, 765, 767, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172)
)

# The decisions for calls of these functions, and for a call of any other.
CALLS: Final = dict.fromkeys(
    _LARGE_OBJECT_FUNCTIONS, Decision(PRIMARY, Reason.FUNCTION_CALL, known_write=True)
)
OTHER_CALL: Final = Decision(PRIMARY, Reason.FUNCTION_CALL, pin=Pin.UNPARSED, known_write=True)
