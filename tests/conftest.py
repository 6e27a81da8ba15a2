"""What holds for every test: no example of a property is judged by how long it took, since machines are shared and noisy; a request is no reading of the machine's certificates."""
import functools

import httpx._transports.default as transport
from hypothesis import settings

settings.register_profile("weir", deadline=None)
settings.load_profile("weir")

# Each httpx.get has a client of its own, and each client reads all certificates anew: 25 ms of CPU, several times what a quick request costs. Kept by its arguments.
transport.create_ssl_context = functools.cache(transport.create_ssl_context)
