"""Running dbt and reading its artifacts. dbt is never imported: `dbt/` is a folder of another system.

In: landing tables. Out: staging and marts, and how each model did.
"""
