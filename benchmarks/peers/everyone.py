"""All peers, in the order in which they are measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from benchmarks.peers import ANOTHER, Peer
from benchmarks.peers.aws_lambda_ric import AwsLambdaRic
from benchmarks.peers.execnet_gateway import Execnet
from benchmarks.peers.functions_framework_server import FunctionsFramework
from benchmarks.peers.loky_executor import Loky
from benchmarks.peers.mitogen_local import Mitogen
from benchmarks.peers.multiprocessing_pool import MultiprocessingPool
from benchmarks.peers.nuclio_wrapper import NuclioWrapper
from benchmarks.peers.pebble_pool import Pebble
from benchmarks.peers.process_pool_executor import ProcessPoolExecutor
from benchmarks.peers.ray_actor import RayActor

NOTE_TITLE: Final = "runs which Python"


def all_peers() -> Sequence[Peer]:
    """A new object for each peer."""
    return (
        Execnet(),
        Mitogen(),
        MultiprocessingPool(),
        ProcessPoolExecutor("fork"),
        ProcessPoolExecutor("forkserver"),
        ProcessPoolExecutor("spawn"),
        Pebble(),
        Loky(),
        AwsLambdaRic(),
        FunctionsFramework(),
        NuclioWrapper(),
        RayActor(),
    )


def notes(*any_python: str) -> dict[str, str]:
    """Which Python each contender can run the function in; those named here take any."""
    return {**dict.fromkeys(any_python, ANOTHER), **{peer.name: peer.interpreter for peer in all_peers()}}
