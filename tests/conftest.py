"""What holds for every test: no example of a property is judged by how long it took, since machines are shared and noisy."""
from hypothesis import settings

settings.register_profile("weir", deadline=None)
settings.load_profile("weir")
