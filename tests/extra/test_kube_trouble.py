"""The reflector comes through what a real kube-apiserver does to it."""

from tests.support.kube_trouble import KubeTrouble


class TestOnTheRealOne(KubeTrouble):
    pass
