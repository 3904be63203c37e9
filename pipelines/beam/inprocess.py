"""Running the graph in this process, by a module that does not import Beam."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.pipelines.beam.run import Run
    from headrace.pipelines.sources.inputs import Inputs
    from headrace.pipelines.training.job import TrainJob


def run_graph(
    run: Run, inputs: Inputs, job: TrainJob, first_block: int = 0, options: tuple[str, ...] = ()
) -> None:
    """Run the graph, see `headrace.pipelines.beam.graph.run_graph`.

    Beam is imported only now, while the first blocks of the run are being read.
    """
    from headrace.pipelines.beam.graph import run_graph as run_imported

    run_imported(run, inputs, job, first_block, options)
