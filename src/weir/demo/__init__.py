"""Room `demo`: the story of `./weir demo`: load, reconcile, and follow one profile change and one click to a recommendation.

In: a running stack. Out: a `DemoResult`. Keep: a second run on the same stack loads nothing twice; a number that was not measured fails the
story, it is never filled in.
"""
