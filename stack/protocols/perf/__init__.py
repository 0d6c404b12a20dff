"""How fast one stream is: `/perf/1.0.0`. Not to be served to strangers."""

from stack.protocols.perf.service import PERF, PerfService, run_perf

__all__ = ["PERF", "PerfService", "run_perf"]
