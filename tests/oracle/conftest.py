"""One dbt process for all builds of a worker's modules, as the demo has one for its two."""
import pytest

from weir.transform.session import Session


@pytest.fixture(scope="session")
def dbt():
    with Session() as found:
        yield found.run
