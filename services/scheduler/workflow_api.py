"""WorkflowService: workflows, and the datasets, architectures and rates beside them."""

from collections.abc import Mapping

import grpc

from protos.scheduler.v1 import workflow_pb2 as pb
from protos.training.v1.training_pb2 import Architecture
from services.rpc.kernel import Kernel
from services.scheduler.commands import Commands
from services.scheduler.dataset_rpcs import DatasetRpcs
from services.scheduler.domain.placement import Rates
from services.scheduler.queries import Queries
from services.scheduler.sessions import Sessions
from services.scheduler.store import Store
from services.scheduler.workflow_rpcs import WorkflowRpcs


class WorkflowApi(WorkflowRpcs, DatasetRpcs):
    """The servicer: what is no command and no question to a box is here."""

    def __init__(
        self,
        kernel: Kernel,
        commands: Commands,
        store: Store,
        queries: Queries,
        sessions: Sessions,
        architectures: Mapping[str, Architecture],
        rates: Rates,
    ) -> None:
        WorkflowRpcs.__init__(self, kernel, commands, store, architectures)
        DatasetRpcs.__init__(self, commands, store, queries, sessions)
        self._rates = rates

    async def ListArchitectures(
        self,
        request: pb.ListArchitecturesRequest,
        context: "grpc.aio.ServicerContext[pb.ListArchitecturesRequest, pb.ListArchitecturesResponse]",
    ) -> pb.ListArchitecturesResponse:
        return pb.ListArchitecturesResponse(architectures=self._architectures.values())

    async def ListRates(
        self,
        request: pb.ListRatesRequest,
        context: "grpc.aio.ServicerContext[pb.ListRatesRequest, pb.ListRatesResponse]",
    ) -> pb.ListRatesResponse:
        listed = sorted(self._rates.multipliers.items(), key=lambda rate: (rate[1], rate[0]))
        return pb.ListRatesResponse(
            gpus=[pb.GpuRate(name=name, multiplier_micros=micros) for name, micros in listed],
            unlisted_micros=self._rates.unlisted_micros,
            advanced_evaluation_micros=self._rates.advanced_evaluation_micros,
        )
