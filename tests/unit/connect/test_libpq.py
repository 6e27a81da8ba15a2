"""psql finds the stack's database by the variables that libpq reads."""
from weir.connect import postgres


def test_a_urls_parts_are_what_libpq_reads_and_what_it_lacks_is_left_to_libpq():
    assert postgres.libpq("postgresql://weir:a%2Fb@127.0.0.1:5433/shop") == {
        "PGHOST": "127.0.0.1", "PGPORT": "5433", "PGUSER": "weir", "PGPASSWORD": "a/b", "PGDATABASE": "shop"}
    assert postgres.libpq("postgresql://db.example/shop") == {"PGHOST": "db.example", "PGDATABASE": "shop"}
