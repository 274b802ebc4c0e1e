"""The real kube-apiserver keeps the contract that the fake is held to.

The rights of its reader are those of the Role in deploy/, no more and no less.
"""

from tests.support.kube_contract import KubeContract
from tests.support.kube_writing import WritingContract


class TestTheRealOne(KubeContract):
    pass


class TestWritingToTheRealOne(WritingContract):
    """With the Role of deploy/kustomize/components/label."""
