"""Chaos experiments against the running stack: what must hold, what is broken, what heals; run by Chaos Toolkit.

In: chaos/*.json, a running stack. Out: WEIR_HOME/evidence/<name>-<time>.json. Keep: the oracle counts from the producer's own journal; a
check that could not run is *unknown*, and unknown never passes.
"""
