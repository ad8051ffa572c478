"""Ingest on a Ray cluster of two nodes on this machine: the same bytes as without, also when a node is lost."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ingest_runs import SETTINGS, Listed, contents, run

from kineme.shards.engine_ray import RayEngine
from kineme.shards.errors import DataError
from kineme.shards.ingest import Progress, ingest
from kineme.shards.media import Footage
from kineme.shards.sources.base import SourceItem
from kineme.shards.sources.folder import FolderSource
from kineme.shards.sources.openers import VideoFile

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'kineme[ray]'")
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow]
SMALL = replace(SETTINGS, shard_videos=1)


def test_a_cluster_that_does_not_answer(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--address 127\.0\.0\.1:1: no Ray cluster answers there"):
        ingest(FolderSource(), videos, tmp_path / "out", SMALL, RayEngine("127.0.0.1:1"))


def test_without_an_address_a_cluster_is_started_here(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path / "local", SMALL)
    ingest(FolderSource(), videos, tmp_path / "ray", SMALL, RayEngine(workers=2))
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one processor each, on this machine; this process stays connected to them to the end of the file."""
    from ray.cluster_utils import Cluster

    # The nodes unpickle videos that this file defines.
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", str(Path(__file__).parent))
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "resources": {"head": 1}}
    )
    made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()
    patch.undo()


def test_two_nodes_write_what_one_machine_writes(cluster: Any, videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path / "local", SMALL)
    seen: list[tuple[int, int]] = []

    def note(progress: Progress) -> None:
        seen.append((progress.done, progress.clips))

    report = ingest(FolderSource(), videos, tmp_path / "ray", SMALL, RayEngine(), progress=note)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert seen[-1] == (7, report.manifest.clips)
    assert report.rates == {25.0: 6}


def test_what_the_user_can_mend_is_one_line(cluster: Any, videos: Path, tmp_path: Path) -> None:
    class Gone(FolderSource):
        def items(self, root: Path) -> list[SourceItem]:
            items = super().items(root)
            shutil.rmtree(root)
            return items

    copy = Path(shutil.copytree(videos, tmp_path / "in"))
    with pytest.raises(DataError, match=r"in: is not on node .*; --engine ray needs the source and --out"):
        ingest(Gone(), copy, tmp_path / "out", SMALL, RayEngine())


def _wait() -> None:
    time.sleep(600)


@dataclass(frozen=True)
class SlowVideo(VideoFile):
    """Writes down when it is begun, and waits a while if it is the first time."""

    log: Path = Path()

    def readers(self) -> Sequence[Callable[[], Footage]]:
        def read() -> Footage:
            first = not self.log.exists()
            self.log.touch()
            if first:
                time.sleep(600)
            return VideoFile(self.path).readers()[0]()

        return (read,)


def test_the_shards_of_a_lost_node_are_done_again(cluster: Any, videos: Path, tmp_path: Path) -> None:
    names = ("v0.mp4", "v1.mp4", "v2.mp4", "v4.mp4")
    run(videos, tmp_path / "local", SMALL, Listed(given=tuple(SourceItem(n, VideoFile(videos / n)) for n in names)))
    log = tmp_path / "begun"
    # While the head is busy, the first shard can only begin on the other node, which is then lost.
    busy = ray.remote(num_cpus=1, resources={"head": 1})(_wait).remote()
    given = [SourceItem(name, VideoFile(videos / name)) for name in names]
    given[0] = replace(given[0], opener=SlowVideo(videos / names[0], log=log))

    def lose_the_node() -> None:
        while not log.exists():
            time.sleep(0.1)
        (lost,) = cluster.worker_nodes
        cluster.remove_node(lost, allow_graceful=False)
        ray.cancel(busy, force=True)

    thread = threading.Thread(target=lose_the_node)
    thread.start()
    ingest(Listed(given=tuple(given)), videos, tmp_path / "ray", SMALL, RayEngine())
    thread.join()
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
