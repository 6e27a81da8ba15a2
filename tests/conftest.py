"""What holds for every test: no example of a property is judged by how long it took, since machines are shared and noisy; a request is no reading of the machine's certificates."""
import functools
from pathlib import Path

import httpx._transports.default as transport
from hypothesis import settings

# By how long they take, the longest first: whoever runs files side by side begins with them, and is not left with one at the end. All others follow in their order.
LONGEST = (
    "oracle/test_simulation.py", "contract/test_replay.py", "oracle/test_marts.py", "contract/test_deploy_dbt.py", "oracle/test_project.py", "contract/test_marks.py",
    "contract/test_verify.py", "contract/test_gateway_kill.py", "contract/test_deploy.py", "contract/test_event_windows.py", "contract/test_gateway_interface.py",
    "contract/test_gateway_soak.py", "contract/test_gateway_users.py", "contract/test_materializer.py", "contract/test_backup.py", "unit/ingest/test_protocol.py",
)

settings.register_profile("weir", deadline=None)
settings.load_profile("weir")

# Each httpx.get has a client of its own, and each client reads all certificates anew: 25 ms of CPU, several times what a quick request costs. Kept by its arguments.
transport.create_ssl_context = functools.cache(transport.create_ssl_context)


def pytest_collection_modifyitems(items):
    here, place = Path(__file__).parent, {name: n for n, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.relative_to(here).as_posix() if item.path.is_relative_to(here) else "", len(place)))
