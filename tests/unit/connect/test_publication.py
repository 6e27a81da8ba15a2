"""What is done about a publication that is there already, by hand."""
from weir.connect.publication import OPERATIONS, TABLES, Publication, narrowed, widening

WHOLE = Publication(dict.fromkeys(TABLES, False), frozenset(OPERATIONS))


def test_a_whole_publication_is_left_alone():
    assert widening(WHOLE) == []
    assert narrowed(WHOLE) == []


def test_what_is_missing_is_added_and_nothing_taken():
    assert widening(None)[0].startswith("CREATE PUBLICATION weir FOR TABLE public.users")
    found = Publication({"public.users": False, "other.table": False}, frozenset({"insert"}))
    assert widening(found) == [
        "ALTER PUBLICATION weir ADD TABLE public.items, public.weir_signal, public.weir_heartbeat",
        "ALTER PUBLICATION weir SET (publish = 'insert, update, delete, truncate')",
    ]


def test_a_filter_on_a_table_of_ours_is_told_and_on_anothers_is_not_our_business():
    found = Publication({**dict.fromkeys(TABLES, False), "public.items": True, "other.table": True}, frozenset(OPERATIONS))
    assert narrowed(found) == ["ALTER PUBLICATION weir DROP TABLE public.items; ALTER PUBLICATION weir ADD TABLE public.items"]
