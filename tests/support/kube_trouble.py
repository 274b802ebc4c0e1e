"""What the API server may come back with after a trouble, and that the watch of the pods follows.

class TestOnTheRealOne(KubeTrouble): ...    with a fixture `kube_api`
"""

from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.fault import FaultProxy
from tests.support.kube import KubeApi, mount, write_kubeconfig
from tests.support.kube_watching import PRIMARY, QUICK, REPLICA, following


@dataclass(frozen=True)
class _Place:
    host: str
    port: int


async def make_pods(api: KubeApi) -> None:
    """A primary and a replica."""
    await api.create_pod("db-0", PRIMARY, ip="10.0.0.10")
    await api.create_pod("db-1", REPLICA, ip="10.0.0.11")


class KubeTrouble:
    async def test_back_with_a_history_that_knows_its_version(
        self, kube_api: KubeApi, tmp_path: Path
    ) -> None:
        """Another etcd, in which the version that the watch came to is long past."""
        await make_pods(kube_api)
        async with following(kube_api, tmp_path) as watch:
            await watch.until_roles(db_0="primary", db_1="replica")
            version = int(str(watch.pods.status()["resource_version"]))
            before = {backend.uid for backend in watch.pods.backends}
            await kube_api.stop()
            await watch.until_outcome("unreachable", count=2)
            await kube_api.start(history_lost=True)
            await make_pods(kube_api)
            await kube_api.patch_labels("db-0", {"role": "replica"})
            await kube_api.patch_labels("db-1", {"role": "primary"})
            other = 0
            while other <= version:
                made = await kube_api.create_pod("other", {})
                other = int(made["metadata"]["resourceVersion"])
                await kube_api.delete_pod("other")
            assert len(watch.snapshots) == 1  # its token is of before
            await mount(kube_api, tmp_path)
            await watch.until_roles(db_0="replica", db_1="primary")
            assert not before & {backend.uid for backend in watch.pods.backends}
            assert [len(snapshot) for snapshot in watch.snapshots] == [2, 2]

    async def test_what_happened_behind_a_partition_is_forgotten(
        self, kube_api: KubeApi, tmp_path: Path
    ) -> None:
        await make_pods(kube_api)
        host, _, port = kube_api.url.removeprefix("https://").partition(":")
        # Long enough for the server to be back before the next request.
        timing = replace(QUICK, watch=(8, 8))
        async with FaultProxy(_Place(host, int(port))) as network:
            url = f"https://{network.host}:{network.port}"
            through_it = tmp_path / "through-it"
            through_it.mkdir()
            kubeconfig = await write_kubeconfig(kube_api, through_it, url)
            async with following(kube_api, tmp_path, timing, kubeconfig=kubeconfig) as watch:
                await watch.until_roles(db_0="primary", db_1="replica")
                await kube_api.patch_labels("db-0", {"role": "none"})
                await watch.until_roles(db_0="none", db_1="replica")
                silent = watch.ended("silent")
                network.stall()
                await kube_api.patch_labels("db-1", {"role": "primary"})
                await kube_api.compact()
                await watch.until_outcome("silent", count=silent + 1)
                assert watch.roles == {"db-0": "none", "db-1": "replica"}
                network.resume()
                await watch.until_roles(db_0="none", db_1="primary")
                assert set(watch.pods.relists) == {"start", "gone"}

    async def test_a_token_that_expires_is_renewed_from_its_file(
        self, kube_api: KubeApi, tmp_path: Path
    ) -> None:
        await make_pods(kube_api)
        async with following(kube_api, tmp_path) as watch:
            await watch.until_roles(db_0="primary", db_1="replica")
            await kube_api.revoke_tokens()
            await mount(kube_api, tmp_path, lifetime=2)
            await watch.until_outcome("unauthorized", count=4)
            await kube_api.patch_labels("db-1", {"role": "primary"})
            assert len(watch.snapshots) == 1
            await mount(kube_api, tmp_path)
            await watch.until_roles(db_0="primary", db_1="primary")
