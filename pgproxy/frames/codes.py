"""The numbers of the frontend/backend protocol, by the names of PostgreSQL's manual. PURE.

A frame's type byte means different things in each direction ('C' is Close from a client and
CommandComplete from a server), hence the prefixes: F_ for what a frontend (client) sends, B_ for
what a backend (server) sends. Manual: "Message Formats".
"""

from typing import Final

# What a client sends.
F_BIND: Final = 0x42  # 'B'
F_CLOSE: Final = 0x43  # 'C'
F_COPY_DATA: Final = 0x64  # 'd'
F_COPY_DONE: Final = 0x63  # 'c'
F_COPY_FAIL: Final = 0x66  # 'f'
F_DESCRIBE: Final = 0x44  # 'D'
F_EXECUTE: Final = 0x45  # 'E'
F_FLUSH: Final = 0x48  # 'H'
F_FUNCTION_CALL: Final = 0x46  # 'F'
F_PARSE: Final = 0x50  # 'P'
F_PASSWORD: Final = 0x70  # 'p': also SASLInitialResponse, SASLResponse, GSSResponse
F_QUERY: Final = 0x51  # 'Q'
F_SYNC: Final = 0x53  # 'S'
F_TERMINATE: Final = 0x58  # 'X'

# What a server sends.
B_AUTHENTICATION: Final = 0x52  # 'R'
B_BACKEND_KEY_DATA: Final = 0x4B  # 'K'
B_BIND_COMPLETE: Final = 0x32  # '2'
B_CLOSE_COMPLETE: Final = 0x33  # '3'
B_COMMAND_COMPLETE: Final = 0x43  # 'C'
B_COPY_BOTH_RESPONSE: Final = 0x57  # 'W'
B_COPY_DATA: Final = 0x64  # 'd'
B_COPY_DONE: Final = 0x63  # 'c'
B_COPY_IN_RESPONSE: Final = 0x47  # 'G'
B_COPY_OUT_RESPONSE: Final = 0x48  # 'H'
B_DATA_ROW: Final = 0x44  # 'D'
B_EMPTY_QUERY_RESPONSE: Final = 0x49  # 'I'
B_ERROR_RESPONSE: Final = 0x45  # 'E'
B_FUNCTION_CALL_RESPONSE: Final = 0x56  # 'V'
B_NEGOTIATE_PROTOCOL_VERSION: Final = 0x76  # 'v'
B_NO_DATA: Final = 0x6E  # 'n'
B_NOTICE_RESPONSE: Final = 0x4E  # 'N'
B_NOTIFICATION_RESPONSE: Final = 0x41  # 'A'
B_PARAMETER_DESCRIPTION: Final = 0x74  # 't'
B_PARAMETER_STATUS: Final = 0x53  # 'S'
B_PARSE_COMPLETE: Final = 0x31  # '1'
B_PORTAL_SUSPENDED: Final = 0x73  # 's'
B_READY_FOR_QUERY: Final = 0x5A  # 'Z'
B_ROW_DESCRIPTION: Final = 0x54  # 'T'

# The status byte of ReadyForQuery.
STATUS_IDLE: Final = 0x49  # 'I'
STATUS_IN_TRANSACTION: Final = 0x54  # 'T'
STATUS_FAILED: Final = 0x45  # 'E'

# What Describe and Close name.
TARGET_STATEMENT: Final = 0x53  # 'S'
TARGET_PORTAL: Final = 0x50  # 'P'

# The first number of an Authentication frame's body.
AUTH_OK: Final = 0
AUTH_KERBEROS_V5: Final = 2
AUTH_CLEARTEXT: Final = 3
AUTH_CRYPT: Final = 4
AUTH_MD5: Final = 5
AUTH_SCM: Final = 6
AUTH_GSS: Final = 7
AUTH_GSS_CONTINUE: Final = 8
AUTH_SSPI: Final = 9
AUTH_SASL: Final = 10
AUTH_SASL_CONTINUE: Final = 11
AUTH_SASL_FINAL: Final = 12

# The number that follows the length of a first packet: major << 16 | minor, or a request.
CANCEL_REQUEST: Final = 80877102
SSL_REQUEST: Final = 80877103
GSSENC_REQUEST: Final = 80877104
PROTOCOL_3_0: Final = 196608
PROTOCOL_3_2: Final = 196610

# Bytes, of a first packet after its length word (PostgreSQL's MAX_STARTUP_PACKET_LENGTH).
MAX_STARTUP_LENGTH: Final = 10000
# The largest length word of a client's frame (PostgreSQL's PQ_LARGE_MESSAGE_LIMIT, that is
# MaxAllocSize - 1).
MAX_FRAME_LENGTH: Final = 0x3FFFFFFF - 1
# Bytes, of the cancel key's secret part. Protocol 3.0 has always 4, 3.2 up to 256.
MIN_SECRET_LENGTH: Final = 4
MAX_SECRET_LENGTH: Final = 256
