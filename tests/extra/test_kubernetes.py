"""The watch of the pods on a real kube-apiserver, with the rights of the Role in deploy/."""

import pytest

from tests.support.kube_watching import WatchContract


@pytest.mark.timeout(180)  # some tests start the server anew
class TestOnTheRealOne(WatchContract):
    pass
