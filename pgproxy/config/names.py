"""What Kubernetes has names for: namespaces, clusters, labels, objects, containers' ports."""

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

ClusterName = Annotated[
    str,
    Field(
        pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$",
        description="the cluster's name, as its pods' label has it",
    ),
]
NamespaceName = Annotated[
    str,
    Field(
        pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$",
        description='the name of a namespace, or "" for the proxy\'s own',
    ),
]
# Kubernetes: "Labels and Selectors", syntax and character set.
_LABEL_NAME: Final = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_SUBDOMAIN: Final = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
LabelKey = Annotated[
    str,
    Field(
        pattern=rf"^({_SUBDOMAIN}/)?{_LABEL_NAME}$",
        description='a label\'s key such as "role" or "example.com/role"',
    ),
]
LabelValue = Annotated[
    str, Field(pattern=rf"^{_LABEL_NAME}$", description="a label's value that is not empty")
]
OptionalLabelValue = Annotated[
    str, Field(pattern=rf"^({_LABEL_NAME})?$", description='a label\'s value, or "" for no label')
]
ObjectName = Annotated[
    str, Field(pattern=rf"^{_SUBDOMAIN}$", max_length=253, description="the name of an object")
]


def _number_as_text(value: object) -> object:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else value


# A container port's name as Kubernetes takes it: IANA_SVC_NAME, RFC 6335 section 5.1.
_PORT_NAME: Final = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")


def _port_or_name(text: str) -> str:
    is_number = text.isascii() and text.isdigit() and not text.startswith("0")
    if (is_number and int(text) <= 65535) or text == "" or _PORT_NAME.fullmatch(text):
        return text
    raise ValueError("neither")


PortOrName = Annotated[
    str,
    BeforeValidator(_number_as_text),
    Field(description="a port, 1 to 65535, or the name of a container's port"),
    AfterValidator(_port_or_name),
]
PresetName = Literal[
    "",
    "cloudnativepg",
    "edb",
    "zalando",
    "crunchy",
    "crunchy-v4",
    "percona",
    "stackgres",
    "kubedb",
    "patroni",
    "patroni-3",
    "bitnami-ha",
    "bitnami",
    "kubeblocks",
    "kubegres",
    "opengauss",
]
